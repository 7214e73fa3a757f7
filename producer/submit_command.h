/*
 * submit_command.h: the options of mserve-submit, as a table: for its command line, its help, and
 * the completions that `mserve completion` prints.
 */
#ifndef MSERVE_PRODUCER_SUBMIT_COMMAND_H
#define MSERVE_PRODUCER_SUBMIT_COMMAND_H

#include "producer/submit.h"

extern const struct options_command submit_command;

/* What options_parse() fills. */
extern struct submit_options submit_typed;
extern const char *submit_config;

#endif
