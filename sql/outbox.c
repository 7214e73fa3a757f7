/* outbox.c: one statement each. */
#include "sql/outbox.h"

#include "config/log.h"
#include "sql/queries.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------------------- claiming ---- */

static struct slice kept(const struct db_result *result, int row, int column, struct arena *arena)
{
    struct slice value = db_get_slice(result, row, column);

    if (!value.data)
        return value;
    return (struct slice){arena_copy(arena, value.data, value.len), value.len};
}

static struct outbox_delivery delivery_of(const struct db_result *result, int row, int64_t token,
                                          struct arena *arena)
{
    return (struct outbox_delivery){
        .endpoint = db_get_uuid(result, row, 0),
        .event = db_get_uuid(result, row, 1),
        .token = token,
        .attempts = (uint32_t)db_get_i32(result, row, 2),
        .url = kept(result, row, 3, arena),
        .sealed = {kept(result, row, 4, arena), kept(result, row, 5, arena)},
        .failures = (uint32_t)db_get_i32(result, row, 6),
        .failing_ms = (uint64_t)db_get_i64(result, row, 7),
        .body = kept(result, row, 8, arena),
    };
}

enum err outbox_claim(struct db *db, const struct outbox_claim *claim, struct arena *arena,
                      struct outbox_delivery **ret, uint32_t *ret_count)
{
    struct db_result result = {0};
    struct outbox_delivery *found;
    int64_t token;
    enum err rc;

    random_fill(&token, sizeof(token));
    rc = db_exec(db, QUERY_WEBHOOK_CLAIM,
                 DB_PARAMS(db_i32((int32_t)claim->limit), db_i64((int64_t)claim->lease_ms),
                           db_i64(token), db_uuid(&claim->after),
                           db_i32((int32_t)claim->break_after), db_bool(claim->failing)),
                 &result);
    if (rc)
        return rc;
    found = arena_zalloc(arena, (size_t)result.rows + 1, sizeof(*found));
    for (int row = 0; row < result.rows; row++)
        found[row] = delivery_of(&result, row, token, arena);
    *ret = found;
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return ERR_OK;
}

/* --------------------------------------------------------------------------------- recording ---- */

/* The outcomes as columns. */
struct columns {
    struct uuid endpoint[OUTBOX_RECORD_MAX];
    struct uuid event[OUTBOX_RECORD_MAX];
    int64_t token[OUTBOX_RECORD_MAX];
    struct slice outcome[OUTBOX_RECORD_MAX];
    int32_t status[OUTBOX_RECORD_MAX];
    struct slice why[OUTBOX_RECORD_MAX];
    int32_t took_ms[OUTBOX_RECORD_MAX];
    int64_t age_ms[OUTBOX_RECORD_MAX];
    int64_t retry_ms[OUTBOX_RECORD_MAX];
    int64_t rest_ms[OUTBOX_RECORD_MAX];
    struct slice disabled_why[OUTBOX_RECORD_MAX];
};

static struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static bool is_told(const struct columns *at, uint32_t count, const struct outbox_outcome *outcome)
{
    for (uint32_t i = 0; i < count; i++)
        if (uuid_equal(at->event[i], outcome->event) &&
            uuid_equal(at->endpoint[i], outcome->endpoint))
            return true;
    return false;
}

static uint32_t fill_columns(const struct outbox_outcome *outcomes, uint32_t count,
                             struct columns *at)
{
    uint32_t n = 0;

    for (; n < count && n < OUTBOX_RECORD_MAX && !is_told(at, n, &outcomes[n]); n++) {
        const struct outbox_outcome *outcome = &outcomes[n];

        at->endpoint[n] = outcome->endpoint;
        at->event[n] = outcome->event;
        at->token[n] = outcome->token;
        at->outcome[n] = slice_of(outcome->outcome);
        at->status[n] = (int32_t)outcome->status;
        at->why[n] = slice_of(outcome->why);
        at->took_ms[n] = (int32_t)outcome->took_ms;
        at->age_ms[n] = (int64_t)outcome->age_ms;
        at->retry_ms[n] = (int64_t)outcome->retry_ms;
        at->rest_ms[n] = (int64_t)outcome->rest_ms;
        at->disabled_why[n] = slice_of(outcome->disabled_why);
    }
    return n;
}

static void log_disabled(const struct db_result *disabled)
{
    char id[UUID_TEXT_SIZE];

    for (int row = 0; row < disabled->rows; row++)
        log_warn("webhook.disabled", "endpoint=%s why=%s",
                 uuid_format(db_get_uuid(disabled, row, 0), id),
                 db_get_slice(disabled, row, 1).data);
}

enum err outbox_record(struct db *db, const struct outbox_outcome *outcomes, uint32_t count,
                       uint32_t *ret_count, uint32_t *ret_disabled)
{
    struct columns *at = xcalloc(1, sizeof(*at));
    size_t n = fill_columns(outcomes, count, at);
    struct db_result disabled = {0};
    enum err rc = db_exec(db, QUERY_WEBHOOK_RECORD,
                          DB_PARAMS(db_uuid_array(at->endpoint, n), db_uuid_array(at->event, n),
                                    db_i64_array(at->token, n), db_text_array(at->outcome, n),
                                    db_i32_array(at->status, n), db_text_array(at->why, n),
                                    db_i32_array(at->took_ms, n), db_i64_array(at->age_ms, n),
                                    db_i64_array(at->retry_ms, n), db_i64_array(at->rest_ms, n),
                                    db_text_array(at->disabled_why, n)),
                          &disabled);

    free(at);
    if (rc)
        return rc;
    log_disabled(&disabled);
    *ret_count = (uint32_t)n;
    *ret_disabled = (uint32_t)disabled.rows;
    db_result_release(&disabled);
    return ERR_OK;
}

/* --------------------------------------------------------------------------------- the rest ---- */

enum err outbox_drop(struct db *db, uint32_t limit, uint64_t *ret_dropped)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_WEBHOOK_DROP, DB_PARAMS(db_i32((int32_t)limit)), &result);

    if (rc)
        return rc;
    *ret_dropped = (uint64_t)db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return ERR_OK;
}

enum err outbox_look(struct db *db, struct outbox_sight *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_WEBHOOK_SIGHT, DB_NO_PARAMS, &result);

    if (rc)
        return rc;
    *ret = (struct outbox_sight){
        .pending = (uint64_t)db_get_i64(&result, 0, 0),
        .oldest_ms = (uint64_t)db_get_i64(&result, 0, 1),
        .resting = (uint64_t)db_get_i64(&result, 0, 2),
        .disabled = (uint64_t)db_get_i64(&result, 0, 3),
    };
    db_result_release(&result);
    return ERR_OK;
}
