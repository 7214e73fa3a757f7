/* commit.c: sends a batch until its outcome is known. */
#include "sql/commit_internal.h"

#include "config/failpoint.h"
#include "config/json.h"
#include "config/log.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct slice no_copy = {NULL, 0};

enum err commit_open(const struct db_options *options, struct commit **ret)
{
    struct commit *commit = xcalloc(1, sizeof(*commit));
    enum err rc = db_open(options, &commit->db);

    if (rc) {
        commit_close(commit);
        return rc;
    }
    *ret = commit;
    return ERR_OK;
}

void commit_close(struct commit *commit)
{
    if (!commit)
        return;
    db_close(commit->db);
    buffer_release(&commit->copy);
    buffer_release(&commit->script);
    arena_release(&commit->arena);
    free(commit);
}

struct db *commit_db(struct commit *commit)
{
    return commit->db;
}

/* A connection with the staging table, made once for each connection. */
static enum err make_ready(struct commit *commit)
{
    enum err rc = ERR_OK;

    if (!db_is_open(commit->db))
        rc = db_reopen(commit->db);
    if (!rc && commit->staged != db_generation(commit->db)) {
        rc = db_script(commit->db, QUERY_COMMIT_STAGING, no_copy, NULL);
        if (!rc)
            commit->staged = db_generation(commit->db);
    }
    return rc;
}

/* "0,3,4": the places of fenced partitions, as the function says them. */
static void read_fenced(struct commit *commit, const struct commit_batch *batch,
                        struct commit_result *ret)
{
    const char *at = db_detail(commit->db);
    uint32_t *fenced = arena_zalloc(&commit->arena, batch->partitions_count + 1, sizeof(*fenced));
    uint32_t count = 0;

    while (*at && count < batch->partitions_count) {
        char *end;
        unsigned long place = strtoul(at, &end, 10);

        if (end == at)
            break;
        if (place < batch->partitions_count)
            fenced[count++] = (uint32_t)place;
        at = *end == ',' ? end + 1 : end;
    }
    ret->fenced = fenced;
    ret->fenced_count = count;
}

/* The function raised: which of its checks, and what our own row says. */
static enum err read_raised(struct commit *commit, const struct commit_batch *batch,
                            struct commit_result *ret)
{
    const char *sqlstate = db_sqlstate(commit->db), *detail = db_detail(commit->db);

    if (strcmp(sqlstate, "MS001") == 0) {
        ret->landed_before = strcmp(detail, "landed") == 0;
        log_info("commit.gate_shut", "seq=%" PRId64 " row=%s", batch->seq, detail);
        if (ret->landed_before)
            return ERR_OK;
        return strcmp(detail, "again") == 0 ? ERR_AGAIN : ERR_LOST;
    }
    if (strcmp(sqlstate, "MS002") == 0) {
        read_fenced(commit, batch, ret);
        if (ret->fenced_count > 0)
            return ERR_AGAIN;
    }
    return fail(ERR_INTERNAL, "commit %" PRId64 " is not in order: %s (%s)", batch->seq,
                db_message(commit->db), detail);
}

static enum err send_rows(struct commit *commit, const struct commit_batch *batch,
                          struct commit_result *ret)
{
    struct db_result result = {0};
    enum err rc;

    commit_encode_all(batch, &commit->touched, commit->order, commit->replaced,
                      commit->replaced_count, &commit->copy);
    db_expect_rejected(commit->db, true);
    DB_FAILPOINTS_INSIDE(commit->db, "row.updated", "partitions.locked");
    DB_FAILPOINT_COPIED(commit->db, "copied");
    DB_FAILPOINT_SENT(commit->db, "commit.sent");
    rc = FAILPOINT_CALL(
        "acked", ERR_DATABASE,
        db_script(commit->db, commit->script.data, buffer_slice(&commit->copy), &result));
    db_expect_rejected(commit->db, false);
    if (!rc) {
        ret->rows_inserted = (uint32_t)db_get_i64(&result, 0, 0);
        ret->rows_duplicate = (uint32_t)db_get_i64(&result, 0, 1);
        ret->checkpoints_late = (uint32_t)db_get_i64(&result, 0, 2);
    }
    db_result_release(&result);
    if (!rc)
        return rc;
    db_rollback(commit->db);
    return rc == ERR_LOST ? read_raised(commit, batch, ret) : rc;
}

static enum err send_batch(struct commit *commit, const struct commit_batch *batch,
                           struct commit_result *ret)
{
    if (batch->checkpoints_count > 0)
        return FAILPOINT_CALL("checkpoint", ERR_DATABASE, send_rows(commit, batch, ret));
    return send_rows(commit, batch, ret);
}

/* Whether the rows order[first ..] can be stored; ERR_REJECTED when one cannot. */
static enum err probe(struct commit *commit, const struct commit_batch *batch, uint32_t first,
                      uint32_t count)
{
    enum err rc;

    commit_encode_rows(batch, commit->order, first, count, commit->replaced, commit->replaced_count,
                       &commit->copy);
    db_expect_rejected(commit->db, true);
    rc = db_script(commit->db, QUERY_COMMIT_PROBE, buffer_slice(&commit->copy), NULL);
    db_expect_rejected(commit->db, false);
    db_rollback(commit->db);
    return rc;
}

static const char *unstorable(struct commit *commit)
{
    struct buffer text = {0};
    struct buffer json = {0};
    char *copy;

    buffer_printf(&text, "The result could not be stored: %s (SQLSTATE %s)", db_message(commit->db),
                  db_sqlstate(commit->db));
    json_write_open(&json, '{');
    json_write_key(&json, "code");
    json_write_text(&json, "result_unstorable");
    json_write_key(&json, "message");
    json_write_string_clean(&json, buffer_slice(&text));
    json_write_close(&json, '}');
    copy = arena_copy(&commit->arena, json.data, json.len);
    buffer_release(&text);
    buffer_release(&json);
    return copy;
}

/* Rows that cannot be stored, by halving; they are added to `found`. */
static enum err find_unstorable(struct commit *commit, const struct commit_batch *batch,
                                uint32_t first, uint32_t count, struct commit_replacement *found,
                                uint32_t *found_count)
{
    enum err rc = probe(commit, batch, first, count);

    if (rc != ERR_REJECTED)
        return rc;
    if (count == 1) {
        uint32_t row = commit->order[first];

        log_warn("commit.unstorable", "line=%" PRId64 " sqlstate=%s", batch->rows[row].line,
                 db_sqlstate(commit->db));
        found[(*found_count)++] = (struct commit_replacement){row, unstorable(commit)};
        return ERR_OK;
    }
    rc = find_unstorable(commit, batch, first, count / 2, found, found_count);
    if (!rc)
        rc = find_unstorable(commit, batch, first + count / 2, count - count / 2, found,
                             found_count);
    return rc;
}

static int by_row(const void *a, const void *b)
{
    uint32_t left = ((const struct commit_replacement *)a)->row;
    uint32_t right = ((const struct commit_replacement *)b)->row;

    return (left > right) - (left < right);
}

/* ERR_OK when some rows were found and replaced: the batch is worth sending again. */
static enum err replace_unstorable(struct commit *commit, const struct commit_batch *batch)
{
    char why[256];
    struct commit_replacement *found;
    uint32_t count = 0;
    enum err rc;

    snprintf(why, sizeof(why), "%s (SQLSTATE %s)", db_message(commit->db), db_sqlstate(commit->db));
    found = arena_zalloc(&commit->arena, batch->rows_count + 1, sizeof(*found));
    rc = commit->replaced_count == 0 && batch->rows_count > 0
             ? find_unstorable(commit, batch, 0, batch->rows_count, found, &count)
             : ERR_OK;
    if (rc)
        return rc;
    if (count == 0)
        return fail(ERR_REJECTED, "commit %" PRId64 " was rejected for no single row: %s",
                    batch->seq, why);
    qsort(found, count, sizeof(*found), by_row);
    commit->replaced = found;
    commit->replaced_count = count;
    return ERR_OK;
}

enum err commit_run(struct commit *commit, const struct commit_batch *batch,
                    struct commit_result *ret)
{
    enum err rc;

    *ret = (struct commit_result){0};
    rc = make_ready(commit);
    if (rc)
        return rc;
    arena_clear(&commit->arena);
    commit->replaced_count = 0;
    commit->order = commit_order(batch, &commit->arena);
    commit_find_touched(batch, &commit->arena, &commit->touched);
    commit_write_script(batch, &commit->touched, &commit->script);
    rc = send_batch(commit, batch, ret);
    if (rc == ERR_REJECTED) {
        rc = replace_unstorable(commit, batch);
        if (rc)
            return rc;
        rc = send_batch(commit, batch, ret);
        ret->rows_unstorable = commit->replaced_count;
    }
    if (rc == ERR_CONFLICT || rc == ERR_REJECTED)
        return fail(ERR_REJECTED, "commit %" PRId64 ": %s (SQLSTATE %s)", batch->seq,
                    db_message(commit->db), db_sqlstate(commit->db));
    return rc;
}
