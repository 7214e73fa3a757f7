/*
 * errors.h: every way in which mserve can fail, one row each.
 *
 * A function that can fail returns `enum err`, ERR_OK (0) on success. The failure is logged once,
 * where it is first seen, by `return fail(ERR_X, "…")` (config/log.h), and travels up as the code;
 * whoever receives a code does not log it again. Outcomes that are part of normal work
 * (ERR_NOT_FOUND, ERR_AGAIN, ERR_LOST) are returned without a log line.
 *
 * A program's exit status is the `exit` column of what ended it; docs/formats.md prints this table.
 *   0 done · 1 usage or settings, or the doctor found a problem · 2 input invalid, nothing enqueued · 3 the database schema is
 *   another · 4 the job ended failed or cancelled · 5 idempotency conflict · 6 completed, but
 *   some requests failed · 7 expired · 8 not found · 9 access denied · 10 this host failed (disk,
 *   memory) · 11 model file refused · 12 interrupted, the same command goes on · 13 the worker died
 *   again and again · 70 a bug of ours · 75 the servers are away, try again
 */
#ifndef MSERVE_CONFIG_ERRORS_H
#define MSERVE_CONFIG_ERRORS_H

#include <stdbool.h>

/* clang-format off */
/*  name          exit  retry  phrase */
#define ERRORS(X) \
    X(OK,            0, false, "done") \
    X(USAGE,         1, false, "the command line is wrong") \
    X(SETTINGS,      1, false, "the settings are wrong") \
    X(UNWELL,        1, false, "something is wrong; the report says what to do") \
    X(INPUT,         2, false, "the input is not valid") \
    X(BROKER,       75, true,  "Kafka did not answer or refused") \
    X(DATABASE,     75, true,  "PostgreSQL did not answer or failed") \
    X(SCHEMA,        3, false, "the database schema is not the one this program knows") \
    X(JOB_FAILED,    4, false, "the job ended without completing") \
    X(CONFLICT,      5, false, "the idempotency key belongs to other content or options") \
    X(PARTIAL,       6, false, "the job completed with failed requests") \
    X(EXPIRED,       7, false, "the job's completion window passed") \
    X(NOT_FOUND,     8, false, "there is no such thing") \
    X(DENIED,        9, false, "access was denied") \
    X(IO,           10, true,  "the disk or the network failed") \
    X(MEMORY,       10, true,  "memory ran out") \
    X(MODEL,        11, false, "the model file is not valid or not supported") \
    X(DEVICE,       11, true,  "the device failed") \
    X(INTERRUPTED,  12, true,  "interrupted; the same command goes on where it stopped") \
    X(CRASHES,      13, true,  "the worker died again and again before it had begun") \
    X(AGAIN,        70, true,  "not now") \
    X(LOST,         70, false, "the lease or the partition belongs to somebody else") \
    X(LIMIT,         2, false, "a limit was exceeded") \
    X(REJECTED,     70, false, "the database rejected the data") \
    X(INTERNAL,     70, false, "mserve made a mistake")
/* clang-format on */

enum err {
#define X(name, exit, retry, phrase) ERR_##name,
    ERRORS(X)
#undef X
        ERR_COUNT
};

/* "IO"; never NULL, "?" for a value that is no row. */
const char *err_name(enum err err);

/* "the disk or the network failed" */
const char *err_phrase(enum err err);

/* True when the same call may succeed later without a change. */
bool err_may_retry(enum err err);

/* The exit status of a program that this ended. */
int err_exit_status(enum err err);

#endif
