/*
 * retry.h: what becomes of jobs behind their submission: they are paused and go on, their failed
 * lines are retried as another job, and one day they are purged.
 *
 * Only jobs of the connection's tenant are touched. Errors as in db.h.
 */
#ifndef MSERVE_SQL_RETRY_H
#define MSERVE_SQL_RETRY_H

#include "sql/job.h"

#include <stdbool.h>
#include <stdint.h>

/* What job_set_hold() found or made. */
struct job_hold {
    enum job_state state;
    bool held; /* now */
};

/*
 * Pauses a job, or lets it go on. One that has ended, or is to end, stays as it is: *ret says so.
 * ERR_NOT_FOUND, not logged.
 */
enum err job_set_hold(struct db *db, const struct uuid *job, bool hold, struct job_hold *ret);

/* ---- retry ---- */

/* What a retry takes over from a job. Strings lie in the caller's arena. */
struct retry_source {
    struct uuid job;
    enum job_state state;
    bool sealed;      /* it was accepted once: it has rows, */
    const char *gone; /* unless it was "purged" or "erased"; NULL: it was not */
    const char *endpoint, *tier, *window, *input_name, *topic;
    struct slice metadata; /* JSON; {NULL, 0}: none */
    int32_t priority;
    uint8_t content_sha256[32]; /* of the file that the first job of the chain was made of */
    struct uuid root;           /* that job; `job` itself when it is no retry */
};

/* ERR_NOT_FOUND, not logged. */
enum err retry_source(struct db *db, const struct uuid *job, struct arena *arena,
                      struct retry_source *ret);

/* `statuses` here and below: "failed,expired". Of a job that has ended, so it does not change. */
struct retry_count {
    int64_t lines;      /* to be retried */
    int64_t invalid;    /* others that were not valid when they were submitted, and are not */
    uint8_t digest[32]; /* of the numbers of the lines */
};

enum err retry_count(struct db *db, const struct uuid *job, const char *statuses,
                     struct retry_count *ret);

/* A retry that is there. Strings lie in the caller's arena. */
struct retry_found {
    bool there;
    struct uuid job;
    const char *key; /* its own: `key`, or that with a number behind it */
    bool sealed;
    enum job_state state;
    const char *tier, *window;
    int32_t priority;
};

/* The newest job of that key, or of one that was made of it with a slash and a number. */
enum err retry_find(struct db *db, const char *key, struct arena *arena, struct retry_found *ret);

/* Where lines to retry lie in the log. */
struct retry_chunk {
    int32_t chunk;
    int32_t part;
    int64_t first_line;
    uint32_t lines;
    int64_t first_offset;
    int64_t last_offset;
    uint8_t wanted[128]; /* bit i is 0x80 >> (i % 8) of byte i / 8 */
};

/* The next chunks behind `after` (-1: the first), `max` at most; *ret_count 0: there are no more. */
enum err retry_chunks(struct db *db, const struct uuid *job, const char *statuses, int32_t after,
                      struct retry_chunk *ret, uint32_t max, uint32_t *ret_count);

struct retry_line {
    int64_t line;      /* of the job */
    int64_t root_line; /* of the first job of the chain */
};

/* Likewise by line. */
enum err retry_lines(struct db *db, const struct uuid *job, const char *statuses, int64_t after,
                     struct retry_line *ret, uint32_t max, uint32_t *ret_count);

/*
 * Says of a job that is not sealed whose retry it is, and which line is which; may be repeated.
 * `skipped` are lines of `of` that are not in it. *ret_lines: how many it has.
 */
enum err retry_link(struct db *db, const struct uuid *job, const struct uuid *of,
                    const char *statuses, const int64_t *skipped, size_t skipped_count,
                    int64_t *ret_lines);

#endif
