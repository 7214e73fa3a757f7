/*
 * sweep.h: the rows of cancelled and expired requests in partitions that nobody holds.
 *
 * There is one writer of a partition's results, also here: a worker without a device is registered,
 * claims the partition, writes the rows from the index alone in the same fenced commits as any
 * worker, and releases it.
 */
#ifndef MSERVE_SCHEDULER_SWEEP_H
#define MSERVE_SCHEDULER_SWEEP_H

#include "sql/commit.h"
#include "sql/db.h"
#include "sql/work.h"

#include <stdbool.h>
#include <stdint.h>

struct sweep_options {
    struct db_options db;
    uint64_t lease_ms;
    const char *currency;
};

/* Sweeps what there is, on `db` and a second connection that it makes; *ret_rows may be NULL. */
enum err sweep_run(struct db *db, const struct sweep_options *options, bool (*stop)(void),
                   uint64_t *ret_rows);

/*
 * Appends the rows that these chunks still lack, cancelled or expired as was wished; chunks without
 * a wish are passed over. Stops before `rows_max` rows; chunks that did not fit come the next time.
 * The rows point into the arena.
 */
struct sweep_rows {
    struct commit_chunk *chunks;
    struct commit_row *rows;
    uint32_t chunks_count;
    uint32_t rows_count;
};

void sweep_build(const struct work_chunk *work, size_t count, uint32_t rows_max,
                 struct arena *arena, struct sweep_rows *ret);

#endif
