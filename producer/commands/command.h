/*
 * command.h: the sub-commands of mserve: a table of tables, one file a group.
 */
#ifndef MSERVE_PRODUCER_COMMAND_H
#define MSERVE_PRODUCER_COMMAND_H

#include "config/options.h"
#include "producer/cli.h"

/* What is made ready before a command runs. */
enum command_needs {
    COMMAND_NOTHING,
    COMMAND_SETTINGS,
    COMMAND_SCHEMA, /* settings, and a database with the schema of this program */
};

struct command {
    struct options_command options;
    enum command_needs needs;
    enum err (*run)(struct cli *cli, const struct options_rest *rest);
};

struct command_group {
    const struct command *command;
    size_t count;
};

extern const struct command_group command_jobs;    /* get, list, cancel */
extern const struct command_group command_hold;    /* pause, resume */
extern const struct command_group command_retry;   /* retry */
extern const struct command_group command_purge;   /* purge */
extern const struct command_group command_results; /* results, errors */
extern const struct command_group command_cost;    /* cost */
extern const struct command_group command_dead;    /* dead-letter list, show, replay */
extern const struct command_group command_watch;   /* watch */
extern const struct command_group command_worker;  /* worker list, worker drain */
extern const struct command_group command_tenant;  /* tenant list, add, …, erase */
extern const struct command_group command_doctor;  /* doctor */
extern const struct command_group command_webhook; /* webhook add, list, test, … */
extern const struct command_group command_admin;   /* migrate, topics, check-config */

/* For every table that has it: where --config is put. */
extern const char *command_config;

#define COMMAND_CONFIG                                                                             \
    {                                                                                              \
        "config", 'c', OPTION_PATH, "FILE", &command_config,                                       \
            .sentence = "The settings; else $MSERVE_CONFIG, ./config/mserve.yaml, "                \
                        "/etc/mserve/mserve.yaml."                                                 \
    }

#endif
