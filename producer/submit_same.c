/*
 * submit_same.c: an idempotency key names a job with its options. The same key with others is
 * neither another job nor that job: it is refused, as with other content.
 */
#include "config/log.h"
#include "producer/submit_internal.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <string.h>

/* Before each difference but the first. */
static struct buffer *next(struct buffer *to)
{
    if (to->len > 0)
        buffer_add_text(to, ", ");
    return to;
}

static void add_difference(struct buffer *to, const char *option, const char *there,
                           const char *here)
{
    buffer_printf(next(to), "%s %s there and %s here", option, there, here);
}

static void compare_text(struct buffer *to, const char *option, struct slice there,
                         const char *here)
{
    if (strlen(here) != there.len || memcmp(there.data, here, there.len) != 0)
        add_difference(to, option, there.data, here);
}

/*
 * The window of a command that has no --completion-window is the operator's: it is not compared. Of
 * two jobs that differ in --any-model alone, one has lines with other models, or they are alike.
 */
static void compare(const struct submit *submit, const struct db_result *result, struct buffer *to)
{
    struct slice model = db_get_slice(result, 0, 2);
    int32_t priority = db_get_i32(result, 0, 5);

    compare_text(to, "--tier", db_get_slice(result, 0, 0), submit->tier->name);
    compare_text(to, "--endpoint", db_get_slice(result, 0, 1), endpoint_url(submit->endpoint));
    if (submit->options->window != NULL && db_get_i64(result, 0, 4) != (int64_t)submit->window_ms)
        add_difference(to, "--completion-window", db_get_slice(result, 0, 3).data, submit->window);
    if (priority != submit->priority)
        buffer_printf(next(to), "--priority %" PRId32 " there and %" PRId32 " here", priority,
                      submit->priority);
    if (!db_get_bool(result, 0, 6))
        buffer_add_text(next(to), "other --metadata");
    if (to->len == 0 &&
        (db_is_null(result, 0, 2) != (submit->scan.model == NULL) ||
         (submit->scan.model != NULL && strcmp(model.data, submit->scan.model) != 0)))
        buffer_add_text(to, "other models in the valid lines, as --any-model makes them");
}

/* The topic of an upload that began before its tier got another: no worker of the tier reads it. */
static enum err check_topic(const struct submit *submit)
{
    char id[UUID_BATCH_SIZE];

    if (submit->job.state != JOB_VALIDATING || strcmp(submit->job.topic, submit->tier->topic) == 0)
        return ERR_OK;
    uuid_format_batch(submit->job.job, id);
    return fail(ERR_CONFLICT,
                "%s was begun on the topic %s, but the tier %s has %s now; end it with: mserve "
                "cancel %s, and submit the file again with %s",
                id, submit->job.topic, submit->tier->name, submit->tier->topic, id,
                submit->options->idempotency_key != NULL ? "another key" : "--new");
}

enum err submit_check_same(struct submit *submit)
{
    struct db_result result = {0};
    struct buffer differences = {0};
    enum err rc;

    /* A key of our own holds these options: what has it was made with them. */
    if (submit->job.made || submit->options->idempotency_key == NULL)
        return check_topic(submit);
    rc = db_exec(submit->cli->db, QUERY_JOB_PARAMETERS,
                 DB_PARAMS(db_uuid(&submit->job.job), db_json(submit->metadata)), &result);
    if (rc != ERR_OK)
        return rc;
    if (result.rows == 1)
        compare(submit, &result, &differences);
    if (differences.len > 0)
        rc = fail(ERR_CONFLICT,
                  "the idempotency key \"%s\" belongs to a job with other options: %s; give the "
                  "same, or choose another key",
                  submit->options->idempotency_key, differences.data);
    buffer_release(&differences);
    db_result_release(&result);
    return rc == ERR_OK ? check_topic(submit) : rc;
}
