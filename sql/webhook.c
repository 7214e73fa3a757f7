/* webhook.c: one call, one query. */
#include "sql/webhook.h"
#include "config/log.h"
#include "sql/queries.h"

#include <stdio.h>
#include <string.h>

static void copy_text(const struct db_result *result, int row, int column, char *out, size_t size)
{
    struct slice text = db_get_slice(result, row, column);

    snprintf(out, size, "%.*s", (int)text.len, text.data ? text.data : "");
}

enum err webhook_find(struct db *db, const char *name, const char *url,
                      struct webhook_endpoint *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_WEBHOOK_FIND, DB_PARAMS(db_text(name), db_text(url)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0) {
        rc = ERR_NOT_FOUND;
    } else {
        ret->endpoint = db_get_uuid(&result, 0, 0);
        copy_text(&result, 0, 1, ret->name, sizeof(ret->name));
        ret->enabled = db_get_bool(&result, 0, 2);
    }
    db_result_release(&result);
    return rc;
}

/* Jobs under way tell of their rows, if that is what it wants. */
static enum err turn_pages_on(struct db *db, const struct uuid *endpoint)
{
    return db_exec(db, QUERY_WEBHOOK_PAGES_ON, DB_PARAMS(db_uuid(endpoint)), NULL);
}

enum err webhook_add(struct db *db, const struct webhook_spec *spec)
{
    struct db_param events =
        spec->event_count > 0 ? db_text_array(spec->event, spec->event_count) : db_null();
    enum err rc;

    db_expect_rejected(db, true);
    rc = db_exec(db, QUERY_WEBHOOK_ADD,
                 DB_PARAMS(db_uuid(&spec->endpoint), db_text(spec->name), db_text_slice(spec->url),
                           events, db_bool(spec->every_job),
                           db_bytea(spec->secret.data, spec->secret.len)),
                 NULL);
    db_expect_rejected(db, false);
    return rc == ERR_OK ? turn_pages_on(db, &spec->endpoint) : rc;
}

enum err webhook_secret(struct db *db, const struct uuid *endpoint, struct buffer *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_WEBHOOK_SECRET, DB_PARAMS(db_uuid(endpoint)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0) {
        rc = fail(ERR_NOT_FOUND, "the endpoint has just gone");
    } else {
        struct slice secret = db_get_slice(&result, 0, 0);

        buffer_add(ret, secret.data, secret.len);
    }
    db_result_release(&result);
    return rc;
}

enum err webhook_rotate(struct db *db, const struct uuid *endpoint, struct slice secret,
                        uint64_t overlap_ms)
{
    return db_exec(db, QUERY_WEBHOOK_ROTATE,
                   DB_PARAMS(db_uuid(endpoint), db_bytea(secret.data, secret.len),
                             db_i64((int64_t)overlap_ms)),
                   NULL);
}

enum err webhook_enable(struct db *db, const struct uuid *endpoint)
{
    enum err rc = db_exec(db, QUERY_WEBHOOK_ENABLE, DB_PARAMS(db_uuid(endpoint)), NULL);

    return rc == ERR_OK ? turn_pages_on(db, endpoint) : rc;
}

enum err webhook_disable(struct db *db, const struct uuid *endpoint)
{
    return db_exec(db, QUERY_WEBHOOK_DISABLE, DB_PARAMS(db_uuid(endpoint)), NULL);
}

enum err webhook_test(struct db *db, const struct uuid *endpoint, struct uuid *ret_event)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_WEBHOOK_TEST, DB_PARAMS(db_uuid(endpoint)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0)
        rc = fail(ERR_NOT_FOUND, "the endpoint has just gone");
    else
        *ret_event = db_get_uuid(&result, 0, 0);
    db_result_release(&result);
    return rc;
}

enum err webhook_outcome(struct db *db, const struct uuid *endpoint, const struct uuid *event,
                         struct webhook_outcome *ret)
{
    struct db_result result = {0};
    enum err rc =
        db_exec(db, QUERY_WEBHOOK_OUTCOME, DB_PARAMS(db_uuid(endpoint), db_uuid(event)), &result);

    if (rc != ERR_OK)
        return rc;
    *ret = (struct webhook_outcome){0};
    if (result.rows == 0) {
        rc = fail(ERR_NOT_FOUND, "the delivery has just gone");
    } else {
        copy_text(&result, 0, 0, ret->state, sizeof(ret->state));
        ret->tried = !db_is_null(&result, 0, 1);
        copy_text(&result, 0, 1, ret->outcome, sizeof(ret->outcome));
        ret->status_code = db_get_i32(&result, 0, 2);
        copy_text(&result, 0, 3, ret->why, sizeof(ret->why));
        ret->took_ms = db_get_i32(&result, 0, 4);
        ret->retry_ms = db_get_i64(&result, 0, 5);
    }
    db_result_release(&result);
    return rc;
}

enum err webhook_replay(struct db *db, const struct webhook_replay *which, int64_t *ret_count)
{
    struct db_result result = {0};
    enum err rc =
        db_exec(db, QUERY_WEBHOOK_REPLAY,
                DB_PARAMS(db_uuid(which->endpoint), db_uuid(which->event), db_bool(which->failed),
                          which->since_ms > 0 ? db_i64((int64_t)which->since_ms) : db_null()),
                &result);

    if (rc != ERR_OK)
        return rc;
    *ret_count = db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return ERR_OK;
}

enum err webhook_of_job(struct db *db, const struct uuid *job, const struct uuid *endpoint,
                        bool *ret_set, char name[WEBHOOK_NAME_MAX + 1])
{
    struct db_result result = {0};
    enum err rc =
        db_exec(db, QUERY_JOB_WEBHOOK, DB_PARAMS(db_uuid(job), db_uuid(endpoint)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0) {
        rc = fail(ERR_NOT_FOUND, "the job has just gone");
    } else {
        *ret_set = db_get_bool(&result, 0, 0);
        copy_text(&result, 0, 1, name, WEBHOOK_NAME_MAX + 1);
    }
    db_result_release(&result);
    return rc;
}
