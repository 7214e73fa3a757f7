/* retry.c: the order of things. */
#include "producer/retry_internal.h"
#include "config/json.h"
#include "config/log.h"
#include "config/sha256.h"
#include "producer/job_view.h"
#include "producer/progress.h"
#include "producer/submit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------ the lines ---- */

enum err retry_add(struct retry *retry, struct slice custom_id, struct slice body)
{
    struct buffer *text = &retry->text;
    struct slice url = {retry->source.endpoint, strlen(retry->source.endpoint)};

    buffer_clear(text);
    buffer_add_text(text, "{\"custom_id\":");
    json_write_string_clean(text, custom_id);
    buffer_add_text(text, ",\"method\":\"POST\",\"url\":");
    json_write_string_clean(text, url);
    buffer_add_text(text, ",\"body\":");
    buffer_add(text, body.data, body.len);
    buffer_add_text(text, "}\n");
    if (fwrite(text->data, 1, text->len, retry->spool) != text->len)
        return fail(ERR_IO, "%s: %s", retry->cli->settings->submit.spool_dir, strerror(errno));
    retry->lines++;
    return ERR_OK;
}

void retry_skip(struct retry *retry, int64_t line)
{
    if (retry->skipped_count == retry->skipped_cap) {
        retry->skipped_cap = retry->skipped_cap > 0 ? 2 * retry->skipped_cap : 64;
        retry->skipped = xrealloc(retry->skipped, retry->skipped_cap, sizeof(*retry->skipped));
    }
    retry->skipped[retry->skipped_count++] = line;
}

/* It is gone when it is closed, however this program ends. */
static enum err open_spool(struct retry *retry)
{
    char path[512];
    int fd;

    snprintf(path, sizeof(path), "%.400s/mserve-retry-XXXXXX",
             retry->cli->settings->submit.spool_dir);
    fd = mkstemp(path);
    if (fd < 0)
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    unlink(path);
    retry->spool = fdopen(fd, "w+");
    if (retry->spool == NULL) {
        close(fd);
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    }
    return ERR_OK;
}

static enum err gather(struct retry *retry)
{
    enum err rc = open_spool(retry);

    if (rc == ERR_OK)
        rc = retry->options->file != NULL ? retry_from_file(retry, retry->options->file)
                                          : retry_from_log(retry);
    if (rc == ERR_OK && fflush(retry->spool) != 0)
        rc = fail(ERR_IO, "%s: %s", retry->cli->settings->submit.spool_dir, strerror(errno));
    return rc;
}

/* ---------------------------------------------------------------------------- the old job ---- */

static enum err judge(const struct retry *retry)
{
    const struct retry_source *source = &retry->source;

    if (!job_state_is_terminal(source->state))
        return fail(ERR_USAGE,
                    "%s has not ended (%s): what of it fails can be retried when it has; to follow "
                    "it: mserve watch %s",
                    retry->id, job_state_name(source->state), retry->id);
    if (source->gone != NULL)
        return fail(ERR_NOT_FOUND, "%s was %s: its requests are not there any more", retry->id,
                    source->gone);
    if (!source->sealed)
        return fail(ERR_USAGE,
                    "%s was never accepted (%s) and has no requests: submit the file again",
                    retry->id, job_state_name(source->state));
    return ERR_OK;
}

static void say_invalid(const struct retry *retry, uint64_t count)
{
    char number[32];

    if (count > 0)
        fprintf(stderr, "%s: %s of its requests were not valid and are not retried\n", retry->id,
                progress_number(count, number));
}

static enum err end_with_nothing(const struct retry *retry)
{
    say_invalid(retry, (uint64_t)retry->count.invalid + retry->skipped_count);
    printf("%s: there is nothing to retry (%s)\n", retry->id, retry->options->statuses);
    return cli_flush();
}

/* ------------------------------------------------------------------------------ the new job ---- */

/* The same lines of the same job have one key, but for those that ended before they were accepted. */
static void choose_key(struct retry *retry, const struct retry_found *found, const char *base)
{
    char key[128];
    const char *slash;

    snprintf(key, sizeof(key), "%s", base);
    if (found->there && (found->sealed || !job_state_is_terminal(found->state))) {
        snprintf(key, sizeof(key), "%s", found->key);
    } else if (found->there) {
        slash = strchr(found->key, '/');
        snprintf(key, sizeof(key), "%s/%lu", base,
                 slash != NULL ? strtoul(slash + 1, NULL, 10) + 1 : 1);
    }
    retry->key = arena_copy(&retry->arena, key, strlen(key));
}

static enum err find(struct retry *retry, struct retry_found *ret)
{
    char hex[SHA256_HEX_SIZE], base[80];
    uint8_t digest[SHA256_BYTES];
    struct buffer text = {0};
    enum err rc;

    buffer_printf(&text, "mserve retry 1\nof %s\nlines %s\n", retry->id,
                  hex_encode(retry->count.digest, sizeof(retry->count.digest), hex));
    sha256_of(buffer_slice(&text), digest);
    buffer_release(&text);
    snprintf(base, sizeof(base), "retry:%s", hex_encode(digest, sizeof(digest), hex));
    rc = retry_find(retry->cli->db, base, &retry->arena, ret);
    if (rc == ERR_OK)
        choose_key(retry, ret, base);
    return rc;
}

static bool differs(const char *typed, const char *there)
{
    return typed != NULL && strcmp(typed, there) != 0;
}

static enum err check_same(const struct retry *retry, const struct retry_found *found)
{
    const struct retry_options *options = retry->options;
    char id[UUID_BATCH_SIZE], priority[16];

    snprintf(priority, sizeof(priority), "%" PRId32, found->priority);
    if (!differs(options->tier, found->tier) && !differs(options->window, found->window) &&
        !differs(options->priority, priority))
        return ERR_OK;
    return fail(ERR_CONFLICT,
                "these requests were retried before, with other options, as %s (tier %s, %s, "
                "priority %s): give the same, or retry what fails of that",
                uuid_format_batch(found->job, id), found->tier, found->window, priority);
}

/* What was submitted becomes a retry before it is sealed, so nobody sees it as anything else. */
static enum err on_opened_cb(void *data, const struct job *job)
{
    struct retry *retry = data;
    int64_t lines;
    enum err rc;

    if (job->sealed || job_state_is_terminal(job->state))
        return ERR_OK;
    rc = retry_link(retry->cli->db, &job->job, &retry->source.job, retry->options->statuses,
                    retry->skipped, retry->skipped_count, &lines);
    if (rc == ERR_OK && lines != retry->lines)
        rc = fail(ERR_INTERNAL, "%" PRId64 " lines are to be retried and %" PRId64 " are linked",
                  retry->lines, lines);
    return rc;
}

static enum err submit(struct retry *retry)
{
    const struct retry_options *typed = retry->options;
    const struct retry_source *source = &retry->source;
    char path[64], priority[16];
    struct submit_options options = {
        .file = path,
        .tier = typed->tier != NULL ? typed->tier : source->tier,
        .any_model = true, /* the models were judged when the old job was submitted */
        .endpoint = source->endpoint,
        .window = typed->window != NULL ? typed->window : source->window,
        .idempotency_key = retry->key,
        .on_invalid = "fail",
        .priority = typed->priority != NULL ? typed->priority : priority,
        .wait = typed->wait,
        .output = typed->output,
        .dry_run = typed->dry_run,
        .json = typed->json,
        .input_name = source->input_name,
        .metadata_json = source->metadata,
        .on_opened_cb = on_opened_cb,
        .data = retry,
    };

    snprintf(priority, sizeof(priority), "%" PRId32, source->priority);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(retry->spool));
    return submit_run(retry->cli, &options);
}

static enum err show(struct retry *retry, const struct retry_found *found)
{
    struct submit_options options = {.wait = retry->options->wait,
                                     .output = retry->options->output,
                                     .json = retry->options->json};

    return submit_show(retry->cli, &options, &found->job, found->tier);
}

static void say_what(const struct retry *retry)
{
    char number[32];

    say_invalid(retry, (uint64_t)retry->count.invalid + retry->skipped_count);
    fprintf(stderr, "%s: %s of its requests are retried\n", retry->id,
            progress_number((uint64_t)retry->lines, number));
}

static enum err make(struct retry *retry)
{
    struct retry_found found;
    enum err rc = find(retry, &found);

    if (rc == ERR_OK && found.there && strcmp(found.key, retry->key) == 0)
        rc = check_same(retry, &found);
    if (rc == ERR_OK && found.there && found.sealed && !retry->options->dry_run)
        return show(retry, &found);
    if (rc == ERR_OK)
        rc = gather(retry);
    if (rc != ERR_OK)
        return rc;
    if (retry->lines == 0)
        return end_with_nothing(retry);
    say_what(retry);
    return submit(retry);
}

enum err retry_run(struct cli *cli, const struct retry_options *options)
{
    struct retry retry = {.cli = cli, .options = options};
    struct uuid job = {0};
    enum err rc = job_view_find(cli->db, options->job, &job);

    if (rc == ERR_OK)
        rc = retry_source(cli->db, &job, &retry.arena, &retry.source);
    uuid_format_batch(job, retry.id);
    if (rc == ERR_OK)
        rc = judge(&retry);
    if (rc == ERR_OK)
        rc = retry_count(cli->db, &job, options->statuses, &retry.count);
    if (rc == ERR_OK)
        rc = retry.count.lines == 0 ? end_with_nothing(&retry) : make(&retry);
    if (retry.spool != NULL)
        fclose(retry.spool);
    buffer_release(&retry.text);
    free(retry.skipped);
    arena_release(&retry.arena);
    return rc;
}
