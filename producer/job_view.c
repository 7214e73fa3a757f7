/* job_view.c: one query each. */
#include "producer/job_view.h"
#include "config/log.h"
#include "sql/queries.h"

#include <string.h>

/* The digits of an id as typed, without prefix and hyphens; false when it is none. */
static bool read_digits(const char *text, char digits[33], size_t *ret_len)
{
    size_t len = 0;

    if (strncmp(text, "batch_", 6) == 0)
        text += 6;
    for (; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        if (strchr("0123456789abcdefABCDEF", *text) == NULL || len == 32)
            return false;
        digits[len++] = *text;
    }
    digits[len] = '\0';
    *ret_len = len;
    return len > 0;
}

/* The id that has these digits, filled up with `fill`. */
static struct uuid fill_up(const char *digits, size_t len, char fill)
{
    char text[33];
    struct uuid uuid = {0};

    memset(text, fill, 32);
    memcpy(text, digits, len);
    uuid_parse((struct slice){text, 32}, &uuid);
    return uuid;
}

enum { SHOWN_MAX = 5 }; /* of several jobs that begin alike */

static enum err refuse_several(const char *text, const struct db_result *result)
{
    struct buffer ids = {0};
    char id[UUID_BATCH_SIZE];
    enum err rc;

    for (int row = 0; row < result->rows && row < SHOWN_MAX; row++)
        buffer_printf(&ids, "%s%s", row > 0 ? ", " : "",
                      uuid_format_batch(db_get_uuid(result, row, 0), id));
    rc = fail(ERR_USAGE, "more than one job begins with %s: %s%s; type more of its id", text,
              ids.data, result->rows > SHOWN_MAX ? " and more" : "");
    buffer_release(&ids);
    return rc;
}

enum err job_view_find(struct db *db, const char *text, struct uuid *ret)
{
    struct db_result result = {0};
    char digits[33];
    struct uuid first, last;
    size_t len;
    enum err rc;

    if (!read_digits(text, digits, &len))
        return fail(ERR_USAGE,
                    "\"%.80s\" is no job: an id is batch_ and 32 digits, or the first of "
                    "them",
                    text);
    first = fill_up(digits, len, '0');
    last = fill_up(digits, len, 'f');
    rc = db_exec(db, QUERY_JOB_BY_PREFIX,
                 DB_PARAMS(db_uuid(&first), db_uuid(&last), db_i32(SHOWN_MAX + 1)), &result);
    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0)
        rc = fail(ERR_NOT_FOUND, "there is no job %s; `mserve list` shows yours", text);
    else if (result.rows > 1)
        rc = refuse_several(text, &result);
    else
        *ret = db_get_uuid(&result, 0, 0);
    db_result_release(&result);
    return rc;
}

enum err job_view_object(struct db *db, const struct uuid *job, struct buffer *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_JOB_OBJECT, DB_PARAMS(db_uuid(job)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0) {
        rc = ERR_NOT_FOUND;
    } else {
        struct slice object = db_get_slice(&result, 0, 0);

        buffer_add(ret, object.data, object.len);
    }
    db_result_release(&result);
    return rc;
}

static void copy_text(char *to, size_t size, const struct db_result *result, int column)
{
    snprintf(to, size, "%s",
             db_is_null(result, 0, column) ? "" : db_get_slice(result, 0, column).data);
}

static enum err read_progress(const struct db_result *result, struct job_progress *ret)
{
    struct job_progress progress = {
        .lines = db_is_null(result, 0, 1) ? -1 : db_get_i64(result, 0, 1),
        .completed = db_get_i64(result, 0, 2),
        .failed = db_get_i64(result, 0, 3),
        .cancelled = db_get_i64(result, 0, 4),
        .expired = db_get_i64(result, 0, 5),
        .input_tokens = db_get_i64(result, 0, 6),
        .output_tokens = db_get_i64(result, 0, 7),
        .gpu_ns = db_get_i64(result, 0, 8),
        .device_ns = db_get_i64(result, 0, 9),
        .devices = db_get_i64(result, 0, 10),
        .priced_alike = !db_is_null(result, 0, 11),
    };
    enum err rc = job_state_parse(db_get_slice(result, 0, 0), &progress.state);

    progress.done = progress.completed + progress.failed + progress.cancelled + progress.expired;
    copy_text(progress.charged, sizeof(progress.charged), result, 11);
    copy_text(progress.hold, sizeof(progress.hold), result, 12);
    if (rc == ERR_OK)
        *ret = progress;
    return rc;
}

enum err job_view_progress(struct db *db, const struct uuid *job, struct job_progress *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_JOB_PROGRESS, DB_PARAMS(db_uuid(job)), &result);

    if (rc != ERR_OK)
        return rc;
    rc = result.rows > 0 ? read_progress(&result, ret) : ERR_NOT_FOUND;
    db_result_release(&result);
    return rc;
}

enum err job_view_charged(struct db *db, const struct uuid *job, char *ret, size_t size)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_JOB_CHARGED, DB_PARAMS(db_uuid(job)), &result);

    if (rc != ERR_OK)
        return rc;
    copy_text(ret, size, &result, 0);
    db_result_release(&result);
    return ERR_OK;
}

void job_view_say_hold(const struct uuid *job, const struct job_progress *progress,
                       struct progress *bar, bool *said)
{
    bool held = progress->hold[0] != '\0';
    char id[UUID_BATCH_SIZE];

    if (held == *said)
        return;
    *said = held;
    progress_wipe(bar);
    fprintf(stderr, "%s %s%s\n", uuid_format_batch(*job, id),
            held ? "is held: " : "is held no more and goes on", progress->hold);
}

enum err job_view_outcome(const struct job_progress *progress)
{
    switch (progress->state) {
    case JOB_COMPLETED:
        return progress->failed > 0 ? ERR_PARTIAL : ERR_OK;
    case JOB_EXPIRED:
        return ERR_EXPIRED;
    case JOB_FAILED:
    case JOB_CANCELLED:
        return ERR_JOB_FAILED;
    default:
        return ERR_OK;
    }
}
