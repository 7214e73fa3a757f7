/* lease.c: registration, renewal, claims, release and burial: one statement each. */
#include "sql/lease.h"

#include "config/failpoint.h"
#include "config/log.h"
#include "config/metrics.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A function of ours raised: the gate (MS001) is an expected outcome, the rest is a mistake. */
static enum err raised(struct db *db, enum err rc)
{
    if (rc == ERR_LOST && strcmp(db_sqlstate(db), "MS001") != 0)
        return fail(ERR_INTERNAL, "%s (SQLSTATE %s)", db_message(db), db_sqlstate(db));
    return rc;
}

static enum err do_register(struct db *db, const struct lease_spec *spec, struct lease *ret)
{
    struct db_result result = {0};
    bool has_capacity = spec->capacity && spec->capacity[0];
    char price[64], on_demand[64];
    int64_t token;
    enum err rc;

    random_fill(&token, sizeof(token));
    snprintf(price, sizeof(price), "%.9f", spec->price_per_hour);
    snprintf(on_demand, sizeof(on_demand), "%.9f", spec->price_on_demand_per_hour);
    rc = db_exec(db, QUERY_WORKER_REGISTER,
                 DB_PARAMS(db_i64(token), db_text(spec->name), db_text(spec->host),
                           db_i32(spec->pid), db_text_array(spec->topics, spec->topics_count),
                           db_text(spec->device), db_text(spec->model),
                           db_bytea(spec->model_digest, 32), db_text(spec->numerics),
                           db_text(price), db_text(spec->currency), db_i64((int64_t)spec->lease_ms),
                           db_text(has_capacity ? spec->capacity : NULL),
                           db_text(spec->price_on_demand_per_hour > 0 ? on_demand : NULL),
                           db_uuid(&spec->follows)),
                 &result);
    if (rc)
        return rc;
    *ret = (struct lease){db_get_uuid(&result, 0, 0), token, spec->lease_ms};
    db_result_release(&result);
    return ERR_OK;
}

enum err lease_register(struct db *db, const struct lease_spec *spec, struct lease *ret)
{
    return FAILPOINT_CALL("registered", ERR_DATABASE, do_register(db, spec, ret));
}

enum err lease_renew(struct db *db, const struct lease *lease, int64_t seq, uint64_t reported_ns)
{
    struct db_result result = {0};
    enum err rc;

    rc = FAILPOINT_CALL("renewal", ERR_DATABASE,
                        db_exec(db, QUERY_WORKER_RENEW,
                                DB_PARAMS(db_uuid(&lease->worker), db_i64(lease->token),
                                          db_i64((int64_t)lease->lease_ms), db_i64(seq),
                                          db_i64((int64_t)reported_ns)),
                                &result));
    if (!rc && result.affected == 0)
        rc = ERR_LOST;
    db_result_release(&result);
    return rc;
}

static enum err claim(struct db *db, const struct lease *lease, const char *topic,
                      struct db_param part, uint32_t wanted, struct lease_partition *ret,
                      uint32_t *ret_count)
{
    struct db_result result = {0};
    enum err rc;

    *ret_count = 0;
    DB_FAILPOINT_SENT(db, "claim.sent");
    rc = FAILPOINT_CALL("claim.acked", ERR_DATABASE,
                        db_exec(db, QUERY_PARTITIONS_CLAIM,
                                DB_PARAMS(db_uuid(&lease->worker), db_i64(lease->token),
                                          db_text(topic), part, db_i32((int32_t)wanted)),
                                &result));
    if (rc)
        return raised(db, rc);
    for (int row = 0; row < result.rows && (uint32_t)row < wanted; row++)
        ret[(*ret_count)++] = (struct lease_partition){
            db_get_i32(&result, row, 0), db_get_i64(&result, row, 1), db_get_i64(&result, row, 2)};
    db_result_release(&result);
    return ERR_OK;
}

enum err lease_claim(struct db *db, const struct lease *lease, const char *topic, uint32_t wanted,
                     struct lease_partition *ret, uint32_t *ret_count)
{
    return claim(db, lease, topic, db_null(), wanted, ret, ret_count);
}

enum err lease_claim_one(struct db *db, const struct lease *lease, const char *topic, int32_t part,
                         struct lease_partition *ret)
{
    uint32_t count;
    enum err rc = claim(db, lease, topic, db_i32(part), 1, ret, &count);

    return !rc && count == 0 ? ERR_AGAIN : rc;
}

enum err lease_release(struct db *db, const struct lease *lease, const char *topic,
                       const int32_t *parts, size_t count)
{
    return raised(db, db_exec(db, QUERY_PARTITIONS_RELEASE,
                              DB_PARAMS(db_uuid(&lease->worker), db_i64(lease->token),
                                        db_text(topic), db_i32_array(parts, count)),
                              NULL));
}

/* The first P mod W of the workers, by id, hold one partition more than the others. */
enum err lease_share(struct db *db, const struct lease *lease, const char *topic,
                     uint32_t *ret_share, uint32_t *ret_partitions)
{
    struct db_result result = {0};
    int64_t partitions, workers, place;
    enum err rc;

    rc = db_exec(db, QUERY_PARTITIONS_SHARE, DB_PARAMS(db_uuid(&lease->worker), db_text(topic)),
                 &result);
    if (rc)
        return rc;
    partitions = db_get_i64(&result, 0, 0);
    workers = db_get_i64(&result, 0, 1);
    place = db_is_null(&result, 0, 2) ? workers : db_get_i64(&result, 0, 2);
    db_result_release(&result);
    *ret_partitions = (uint32_t)partitions;
    *ret_share =
        place < workers ? (uint32_t)(partitions / workers + (place < partitions % workers)) : 0;
    return ERR_OK;
}

enum err lease_owned(struct db *db, const struct lease *lease, const char *topic, int32_t *ret,
                     uint32_t cap, uint32_t *ret_count)
{
    struct db_result result = {0};
    enum err rc;

    rc = db_exec(db, QUERY_PARTITIONS_OWNED, DB_PARAMS(db_uuid(&lease->worker), db_text(topic)),
                 &result);
    if (rc)
        return rc;
    *ret_count = 0;
    for (int row = 0; row < result.rows && *ret_count < cap; row++)
        ret[(*ret_count)++] = db_get_i32(&result, row, 0);
    db_result_release(&result);
    return ERR_OK;
}

enum err lease_drain(struct db *db, const struct lease *lease, uint64_t within_ms, const char *why)
{
    struct db_result result = {0};
    enum err rc;

    rc = db_exec(db, QUERY_WORKER_DRAIN,
                 DB_PARAMS(db_uuid(&lease->worker), db_i64(lease->token),
                           db_i64((int64_t)within_ms), db_text(why)),
                 &result);
    if (!rc && result.affected == 0)
        rc = ERR_LOST;
    db_result_release(&result);
    return rc;
}

enum err lease_wish(struct db *db, const struct lease *lease, uint64_t *ret_left_ms)
{
    struct db_result result = {0};
    enum err rc;

    rc = db_exec(db, QUERY_WORKER_WISH, DB_PARAMS(db_uuid(&lease->worker)), &result);
    if (rc)
        return rc;
    if (result.rows == 0)
        rc = ERR_NOT_FOUND;
    else
        *ret_left_ms = (uint64_t)db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return rc;
}

enum err lease_leave(struct db *db, const struct lease *lease, uint64_t held_ns, const char *why)
{
    return FAILPOINT_CALL("burial", ERR_DATABASE,
                          db_exec(db, QUERY_WORKER_BURY,
                                  DB_PARAMS(db_uuid(&lease->worker), db_i64(lease->token),
                                            db_i64((int64_t)held_ns), db_text(why)),
                                  NULL));
}

/* One of them: *ret_buried is false when it has renewed meanwhile, or somebody else was first. */
static enum err bury(struct db *db, const struct db_result *expired, int row, bool *ret_buried)
{
    struct uuid worker = db_get_uuid(expired, row, 0);
    struct db_result result = {0};
    char id[UUID_TEXT_SIZE], name[128], host[128];
    enum err rc;

    *ret_buried = false;
    rc = FAILPOINT_CALL(
        "burial", ERR_DATABASE,
        db_exec(db, QUERY_WORKER_BURY_VANISHED, DB_PARAMS(db_uuid(&worker)), &result));
    if (rc)
        return rc;
    *ret_buried = db_get_bool(&result, 0, 0);
    db_result_release(&result);
    if (*ret_buried)
        log_warn("worker.buried", "worker=%s name=%s host=%s why=lease_ran_out",
                 uuid_format(worker, id),
                 log_quote(name, sizeof(name), db_get_slice(expired, row, 1).data),
                 log_quote(host, sizeof(host), db_get_slice(expired, row, 2).data));
    return ERR_OK;
}

enum err lease_bury_expired(struct db *db, uint32_t *ret_count)
{
    struct db_result expired = {0};
    uint32_t count = 0;
    enum err rc;

    rc = db_exec(db, QUERY_WORKERS_EXPIRED, DB_NO_PARAMS, &expired);
    for (int row = 0; !rc && row < expired.rows; row++) {
        bool buried;

        rc = bury(db, &expired, row, &buried);
        count += buried;
        if (rc == ERR_AGAIN)
            rc = ERR_OK; /* its commit is in flight: the next time */
    }
    db_result_release(&expired);
    metrics_add(METRIC_BURIALS, 0, count);
    if (ret_count)
        *ret_count = count;
    return rc;
}
