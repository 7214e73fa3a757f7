/* sweep.c: a worker without a device, for as long as there are rows that only it can write. */
#include "scheduler/sweep.h"

#include "config/log.h"
#include "sql/lease.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS_MAX = 2048, PARTITIONS_MAX = 64, TRIES_MAX = 5 };

struct sweep {
    struct db *db;
    struct commit *commit;
    struct lease lease;
    int64_t seq; /* of the last commit that landed */
    bool (*stop)(void);
    uint64_t rows;
};

struct orphan {
    char *topic;
    int32_t part;
};

static enum err find_orphans(struct db *db, struct arena *arena, struct orphan **ret,
                             uint32_t *ret_count)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_SCHEDULER_ORPHANS, DB_PARAMS(db_i64(PARTITIONS_MAX)), &result);

    if (rc)
        return rc;
    *ret = arena_zalloc(arena, (size_t)result.rows + 1, sizeof(**ret));
    for (int row = 0; row < result.rows; row++) {
        struct slice topic = db_get_slice(&result, row, 0);

        (*ret)[row].topic = arena_copy(arena, topic.data, topic.len);
        (*ret)[row].part = db_get_i32(&result, row, 1);
    }
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return ERR_OK;
}

static enum err register_worker(struct sweep *sweep, const struct sweep_options *options)
{
    char host[256] = "?";
    struct lease_spec spec = {
        .name = "scheduler",
        .host = host,
        .pid = getpid(),
        .device = "none",
        .currency = options->currency,
        .lease_ms = options->lease_ms,
    };

    gethostname(host, sizeof(host) - 1);
    return lease_register(sweep->db, &spec, &sweep->lease);
}

/* Sends a batch until its outcome is known, a few times. ERR_LOST: the partition or all is lost. */
static enum err commit(struct sweep *sweep, const struct commit_batch *batch)
{
    struct commit_result result;
    enum err rc = ERR_AGAIN;

    for (int i = 0; i < TRIES_MAX && (rc == ERR_AGAIN || rc == ERR_DATABASE); i++) {
        if (i > 0)
            usleep(100000);
        rc = commit_run(sweep->commit, batch, &result);
        if (rc == ERR_AGAIN && result.fenced_count > 0)
            return ERR_LOST;
    }
    if (!rc) {
        sweep->seq = batch->seq;
        sweep->rows += result.landed_before ? batch->rows_count : result.rows_inserted;
    }
    return rc;
}

/* One commit. *ret_more is false when nothing was left to write. */
static enum err sweep_some(struct sweep *sweep, const struct commit_partition *partition,
                           struct arena *arena, bool *ret_more)
{
    struct work_query query = {.topic = partition->topic,
                               .parts = &partition->part,
                               .parts_count = 1,
                               .wished_only = true};
    struct commit_batch batch = {.worker = sweep->lease.worker,
                                 .token = sweep->lease.token,
                                 .seq = sweep->seq + 1,
                                 .lease_ms = sweep->lease.lease_ms,
                                 .partitions = partition,
                                 .partitions_count = 1};
    struct sweep_rows rows;
    struct work_chunk *work;
    size_t count;
    enum err rc;

    arena_clear(arena);
    rc = work_open(sweep->db, &query, arena, &work, &count);
    if (rc)
        return rc;
    sweep_build(work, count, ROWS_MAX, arena, &rows);
    *ret_more = rows.rows_count > 0;
    if (rows.rows_count == 0)
        return ERR_OK;
    batch.chunks = rows.chunks;
    batch.chunks_count = rows.chunks_count;
    batch.rows = rows.rows;
    batch.rows_count = rows.rows_count;
    return commit(sweep, &batch);
}

static enum err sweep_partition(struct sweep *sweep, const struct orphan *orphan)
{
    struct commit_partition partition = {.topic = orphan->topic, .part = orphan->part};
    struct lease_partition claimed;
    struct arena arena = {0};
    bool more = true;
    enum err rc;

    rc = lease_claim_one(sweep->db, &sweep->lease, orphan->topic, orphan->part, &claimed);
    if (rc)
        return rc == ERR_AGAIN ? ERR_OK : rc; /* somebody holds it now: it is theirs to do */
    partition.epoch = claimed.epoch;
    partition.token = claimed.token;
    while (!rc && more && !(sweep->stop && sweep->stop()))
        rc = sweep_some(sweep, &partition, &arena, &more);
    if (!rc)
        rc = lease_release(sweep->db, &sweep->lease, orphan->topic, &orphan->part, 1);
    arena_release(&arena);
    return rc;
}

enum err sweep_run(struct db *db, const struct sweep_options *options, bool (*stop)(void),
                   uint64_t *ret_rows)
{
    struct sweep sweep = {.db = db, .stop = stop};
    struct arena arena = {0};
    struct orphan *orphans;
    uint32_t count = 0;
    enum err rc;

    rc = find_orphans(db, &arena, &orphans, &count);
    if (rc || count == 0)
        goto done;
    rc = commit_open(&options->db, &sweep.commit);
    if (!rc)
        rc = register_worker(&sweep, options);
    if (rc)
        goto done;
    for (uint32_t i = 0; !rc && i < count && !(stop && stop()); i++)
        rc = sweep_partition(&sweep, &orphans[i]);
    if (db_is_open(db))
        (void)lease_leave(db, &sweep.lease, 0, rc ? "error" : "drained");
    log_info("sweep.done", "partitions=%" PRIu32 " rows=%" PRIu64, count, sweep.rows);
done:
    if (ret_rows)
        *ret_rows = sweep.rows;
    commit_close(sweep.commit);
    arena_release(&arena);
    return rc == ERR_LOST ? ERR_OK : rc; /* buried or fenced: the next round does the rest */
}
