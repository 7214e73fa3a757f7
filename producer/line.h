/*
 * line.h: judges one line of a batch file: is it JSON, has it what a line must have, and can its
 * body be run.
 *
 * Pure functions of their arguments; any thread. This is where bytes from outside come in:
 * tests/fuzz feeds it.
 */
#ifndef MSERVE_PRODUCER_LINE_H
#define MSERVE_PRODUCER_LINE_H

#include "producer/request.h"

#include <stdbool.h>
#include <stdint.h>

/* The model names that a tier answers to. */
struct line_models {
    const struct slice *name;
    uint32_t count;
    const char *tier; /* for sentences; "" when no tier was found */
};

/* What the lines of one job have in common. */
struct line_rules {
    bool has_endpoint; /* false: any */
    enum endpoint endpoint;
    const struct line_models *models; /* NULL: any model */
};

/* The members of a line; slices point into its text or into the arena. */
struct line {
    struct slice custom_id;     /* decoded; len 0: none that can be used */
    struct slice custom_id_raw; /* as written, between the quotes */
    struct slice body;          /* as written */
    struct slice model;         /* decoded; len 0: unknown */
    enum endpoint endpoint;
    bool has_endpoint;
    uint64_t work; /* request_work() */
};

/* True when there is nothing but blanks: passed over, but counted. */
bool line_is_blank(struct slice text);

/*
 * Reads and checks a line (without its newline). ERR_INPUT, not logged, with *error filled when it
 * is refused; *ret then holds what could be read: what a failed row or a search for the first good
 * line needs.
 */
enum err line_read(struct arena *arena, const struct line_rules *rules, struct slice text,
                   struct line *ret, struct request_error *error);

#endif
