/*
 * doctor.h: `mserve doctor`: what is wrong with a stack, and what to do. Each check says at least one
 * line; what could not be looked at, because what it needs is away, is said too.
 *
 * Nothing is changed. One thread; reads the clocks.
 */
#ifndef MSERVE_PRODUCER_DOCTOR_H
#define MSERVE_PRODUCER_DOCTOR_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/settings.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdio.h>

enum doctor_level { DOCTOR_OK, DOCTOR_WARNING, DOCTOR_PROBLEM, DOCTOR_LEVELS };

struct doctor_line {
    enum doctor_level level;
    const char *area; /* constant: "kafka" */
    const char *text; /* one sentence */
    const char *next; /* what to do; NULL where nothing is */
};

struct doctor {
    const struct settings *settings; /* NULL: they could not be read */
    struct db *db;                   /* NULL: not to be reached, or not of this schema */
    bool kafka;                      /* it answered */
    struct arena arena;              /* of all texts */
    struct doctor_line *line;
    uint32_t count;
    uint32_t of_level[DOCTOR_LEVELS];
    char caught[1024]; /* what the call that failed would have logged */
};

void doctor_say(struct doctor *doctor, enum doctor_level level, const char *area,
                const char *format, ...) __attribute__((format(printf, 4, 5)));

/* What to do about the line just said. */
void doctor_next(struct doctor *doctor, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Between the two, a sentence that a failing call would log lands in doctor->caught. doctor_caught()
 * gives it, "" when there was none.
 */
void doctor_catch(struct doctor *doctor);
const char *doctor_caught(struct doctor *doctor);

/* Runs a query for a check; says so, and is false, when it fails. */
bool doctor_ask(struct doctor *doctor, const char *area, const char *query, struct db_params params,
                struct db_result *ret);

/* The checks, in their order. `config` is the path given with --config, or NULL. */
void doctor_settings(struct doctor *doctor, const char *config, struct settings **ret);
void doctor_database(struct doctor *doctor); /* opens doctor->db */
void doctor_kafka(struct doctor *doctor);
void doctor_models(struct doctor *doctor);
void doctor_workers(struct doctor *doctor);
void doctor_jobs(struct doctor *doctor);
void doctor_books(struct doctor *doctor);
void doctor_disk(struct doctor *doctor);

/* All of them, and the report to `out`. ERR_UNWELL (not logged) when there was a problem. */
enum err doctor_run(const char *config, bool json, FILE *out);

#endif
