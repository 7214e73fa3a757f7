/*
 * purge.h: jobs that ended long ago are forgotten, of all tenants: their rows, their part of the index,
 * their bodies. The job itself stays, with its counts, tokens, time and cost; what its rows had cost
 * stays added up (mserve.purged_costs), so the books and the bill go on adding up at any moment.
 *
 * Each call is one transaction, and may be repeated: a purge that was killed is gone on with by the
 * next. Errors as in db.h.
 */
#ifndef MSERVE_SQL_PURGE_H
#define MSERVE_SQL_PURGE_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdint.h>

/* What there is to purge. */
struct purge_count {
    int64_t jobs; /* that ended before */
    int64_t rows; /* of these */
    int64_t before_us;
};

/* `older_ms` ago is when jobs must have ended; *ret says when that was, for the other calls. */
enum err purge_count(struct db *db, uint64_t older_ms, struct purge_count *ret);

enum { PURGE_NAME_SIZE = 64 };

/* The partitions of whole months behind `after` ("": the first), in order. ERR_NOT_FOUND, not logged. */
enum err purge_next_partition(struct db *db, const char *after, char ret[PURGE_NAME_SIZE]);

enum purge_partition { PURGE_KEPT, PURGE_BUSY, PURGE_DROPPED };

enum err purge_partition(struct db *db, const char *name, int64_t before_us,
                         enum purge_partition *ret);

/* Jobs behind `after` that ended before and of which there is something; *ret_count 0: no more. */
enum err purge_jobs(struct db *db, int64_t before_us, const struct uuid *after, struct uuid *ret,
                    uint32_t max, uint32_t *ret_count);

/* So many rows of a job; *ret_rows: how many there were. */
enum err purge_rows(struct db *db, const struct uuid *job, int64_t before_us, uint32_t rows_max,
                    int64_t *ret_rows);

/* What there is of it beside its rows. */
enum err purge_rest(struct db *db, const struct uuid *job);

/* So many bodies that no job can need; *ret_blobs: how many there were. */
enum err purge_blobs(struct db *db, int64_t before_us, uint32_t blobs_max, int64_t *ret_blobs);

#endif
