/*
 * checkpoint.h: what earlier attempts left of unfinished requests. Checkpoints are written, taken
 * over and deleted by the fenced commit alone (commit.h); here they are read.
 *
 * Read in a statement of its own after the claim, never before: one that waited for the commit of a
 * worker that is gone would see what was there before it.
 */
#ifndef MSERVE_SQL_CHECKPOINT_H
#define MSERVE_SQL_CHECKPOINT_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdint.h>

struct checkpoint_row {
    int64_t line;     /* of the job */
    uint32_t attempt; /* that wrote it: the next one has a higher number */
    uint32_t tokens;  /* in `state`, as its writer said */
    uint64_t gpu_ns;  /* that the request has cost so far, in all attempts; at most 2^63 - 1 */
    struct uuid worker;
    struct slice state; /* opaque here; may be damaged: whoever opens it checks it */
};

/* Those of the lines first_line .. first_line + lines - 1, by line; *ret lies in the arena. */
enum err checkpoints_load(struct db *db, const struct uuid *job, int64_t first_line, uint32_t lines,
                          struct arena *arena, struct checkpoint_row **ret, uint32_t *ret_count);

#endif
