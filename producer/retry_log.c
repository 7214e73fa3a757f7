/*
 * retry_log.c: lines out of the log: each chunk that holds some of them is read where the index says,
 * and its lines are put into their order. Bodies that were stored aside are fetched one by one.
 */
#include "producer/retry_internal.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/sha256.h"
#include "producer/interrupt.h"
#include "producer/log_reader.h"
#include "producer/message.h"
#include "producer/patience.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zstd.h>

enum {
    CHUNKS_AT_ONCE = 64,
    MESSAGES_AT_ONCE = 256,
    LINES_MAX = 1024,
    POLL_MS = 100,
    AGAIN_MS = 500,
    SILENCE_MS = 10000, /* after which it is asked whether the log still holds the range */
    TRIES_MAX = 2,      /* of a range of which something is not there */
};

/* A line as it came; its bytes lie in the arena of the chunk. */
struct found {
    bool there;
    bool invalid;
    bool has_blob;
    uint8_t blob[MESSAGE_BLOB_BYTES];
    struct slice custom_id;
    struct slice body;
};

struct log {
    struct retry *retry;
    struct log_reader *reader;
    int event_fd;
    struct arena arena;      /* of one chunk */
    struct arena blob_arena; /* of one body */
    struct found line[LINES_MAX];
    uint32_t left; /* lines of the chunk that are wanted and did not come yet */
    uint64_t moved_ns;
};

static bool is_wanted(const struct retry_chunk *chunk, uint32_t index)
{
    return (chunk->wanted[index / 8] & (0x80u >> (index % 8))) != 0;
}

static struct slice copy(struct log *log, struct slice text)
{
    return (struct slice){arena_copy(&log->arena, text.data, text.len), text.len};
}

/* Others' messages may lie between, and a line may have been sent twice: each is taken once. */
static void take(struct log *log, const struct retry_chunk *chunk, const rd_kafka_message_t *raw)
{
    struct message message;
    struct found *found;

    if (message_decode(raw, &message, NULL) != ERR_OK ||
        memcmp(message.job, log->retry->source.job.bytes, MESSAGE_JOB_BYTES) != 0 ||
        message.chunk != (uint32_t)chunk->chunk || message.line < (uint64_t)chunk->first_line ||
        message.line - (uint64_t)chunk->first_line >= chunk->lines)
        return;
    found = &log->line[message.line - (uint64_t)chunk->first_line];
    if (found->there || !is_wanted(chunk, (uint32_t)(found - log->line)))
        return;
    *found = (struct found){.there = true,
                            .invalid = message.error.len > 0,
                            .has_blob = message.has_blob,
                            .custom_id = copy(log, message.custom_id),
                            .body = copy(log, message.body)};
    memcpy(found->blob, message.blob, sizeof(found->blob));
    log->left--;
}

static void rest(const struct log *log)
{
    struct pollfd wait = {.fd = log->event_fd, .events = POLLIN};
    uint64_t count;

    if (poll(&wait, 1, POLL_MS) > 0 && read(log->event_fd, &count, sizeof(count)) < 0)
        return;
}

/* ERR_BROKER: ask again, with a reader that knows nothing of before. */
static enum err ask_after_silence(struct log *log, int32_t part)
{
    enum err rc;

    rest(log);
    if (clock_mono_ns() - log->moved_ns < SILENCE_MS * (uint64_t)CLOCK_NS_PER_MS)
        return ERR_OK;
    rc = log_reader_check(log->reader, part);
    return rc == ERR_NOT_FOUND ? rc : ERR_BROKER;
}

/* Reads until every wanted line is there. ERR_NOT_FOUND: one is not. ERR_BROKER: ask again. */
static enum err read_range(struct log *log, const struct retry_chunk *chunk)
{
    rd_kafka_message_t *message[MESSAGES_AT_ONCE];
    enum err rc =
        log_reader_begin(log->reader, chunk->part, chunk->first_offset, chunk->last_offset);

    log->moved_ns = clock_mono_ns();
    while (rc == ERR_OK && log->left > 0) {
        struct log_reader_got got;

        log_reader_serve(log->reader);
        rc = log_reader_read(log->reader, chunk->part, message, MESSAGES_AT_ONCE, &got);
        for (size_t i = 0; i < got.count; i++) {
            take(log, chunk, message[i]);
            rd_kafka_message_destroy(message[i]);
        }
        if (got.count > 0 || got.unreadable > 0)
            log->moved_ns = clock_mono_ns();
        else if (rc == ERR_OK && !got.end)
            rc = ask_after_silence(log, chunk->part);
        if (rc == ERR_OK && got.end && log->left > 0)
            rc = ERR_NOT_FOUND;
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    return rc;
}

static enum err say_lost(const struct log *log, const struct retry_chunk *chunk)
{
    const struct retry *retry = log->retry;

    return fail(
        ERR_NOT_FOUND,
        "the log (%s) does not hold requests %lld to %lld of %s any more; give the file that "
        "was submitted: mserve retry %s FILE",
        retry->source.topic, (long long)chunk->first_line,
        (long long)(chunk->first_line + chunk->lines - 1), retry->id, retry->id);
}

/* A broker that is silent is waited for, as a submitter does. */
static enum err read_chunk(struct log *log, const struct retry_chunk *chunk)
{
    uint64_t limit_ms = log->retry->cli->settings->submit.outage_max_ms;
    uint64_t began_ns = clock_mono_ns();
    bool said = false;
    enum err rc;

    for (int tries = 0;;) {
        rc = read_range(log, chunk);
        if (rc == ERR_NOT_FOUND && ++tries == TRIES_MAX)
            return say_lost(log, chunk);
        if (rc != ERR_NOT_FOUND && rc != ERR_BROKER)
            return rc;
        log_reader_drop(log->reader, chunk->part);
        if (clock_mono_ns() - began_ns > limit_ms * CLOCK_NS_PER_MS)
            return fail(ERR_BROKER, "Kafka did not give the requests of %s; try again",
                        log->retry->id);
        if (rc == ERR_BROKER && !said)
            patience_say("Kafka", limit_ms);
        said = said || rc == ERR_BROKER;
        usleep(AGAIN_MS * 1000);
        if (interrupted())
            return ERR_INTERRUPTED;
    }
}

/* Checked against its digest: what is submitted again is what was submitted. */
static enum err fetch_blob(struct log *log, struct found *found)
{
    uint64_t bytes_max = log->retry->cli->settings->submit.line_bytes_max;
    uint8_t digest[SHA256_BYTES];
    struct slice packed;
    unsigned long long size;
    char *bytes;
    enum err rc;

    arena_clear(&log->blob_arena);
    rc = blob_get(log->retry->cli->db, &log->retry->source.job, found->blob, &log->blob_arena,
                  &packed);
    if (rc == ERR_NOT_FOUND)
        return fail(rc,
                    "a body of %s that was stored aside is not there any more; give the file "
                    "that was submitted: mserve retry %s FILE",
                    log->retry->id, log->retry->id);
    if (rc != ERR_OK)
        return rc;
    size = ZSTD_getFrameContentSize(packed.data, packed.len);
    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > bytes_max)
        return fail(ERR_INPUT, "a body that was stored aside cannot be unpacked");
    bytes = arena_alloc(&log->blob_arena, size + 1);
    if (ZSTD_decompress(bytes, size, packed.data, packed.len) != size)
        return fail(ERR_INPUT, "a body that was stored aside cannot be unpacked");
    found->body = (struct slice){bytes, size};
    sha256_of(found->body, digest);
    if (memcmp(digest, found->blob, sizeof(digest)) != 0)
        return fail(ERR_INPUT, "a body that was stored aside is not the one submitted");
    return ERR_OK;
}

static enum err add_chunk(struct log *log, const struct retry_chunk *chunk)
{
    enum err rc = ERR_OK;

    for (uint32_t i = 0; rc == ERR_OK && i < chunk->lines; i++) {
        struct found *found = &log->line[i];

        if (!found->there)
            continue;
        if (found->invalid) {
            retry_skip(log->retry, chunk->first_line + i);
            continue;
        }
        if (found->has_blob)
            rc = fetch_blob(log, found);
        if (rc == ERR_OK)
            rc = retry_add(log->retry, found->custom_id, found->body);
    }
    return rc;
}

static enum err take_chunk(struct log *log, const struct retry_chunk *chunk)
{
    enum err rc;

    if (chunk->lines > LINES_MAX)
        return fail(ERR_SCHEMA, "a chunk has %u lines", chunk->lines);
    memset(log->line, 0, sizeof(log->line));
    arena_clear(&log->arena);
    log->left = 0;
    for (uint32_t i = 0; i < chunk->lines; i++)
        log->left += is_wanted(chunk, i);
    rc = read_chunk(log, chunk);
    return rc == ERR_OK ? add_chunk(log, chunk) : rc;
}

static enum err take_all(struct log *log)
{
    struct retry *retry = log->retry;
    struct retry_chunk *chunk = xcalloc(CHUNKS_AT_ONCE, sizeof(*chunk));
    int32_t after = -1;
    uint32_t count = 1;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && count > 0) {
        rc = retry_chunks(retry->cli->db, &retry->source.job, retry->options->statuses, after,
                          chunk, CHUNKS_AT_ONCE, &count);
        for (uint32_t i = 0; rc == ERR_OK && i < count; i++)
            rc = take_chunk(log, &chunk[i]);
        if (rc == ERR_OK && count > 0)
            after = chunk[count - 1].chunk;
    }
    free(chunk);
    return rc;
}

enum err retry_from_log(struct retry *retry)
{
    struct log *log = xcalloc(1, sizeof(*log));
    char group[300];
    struct log_reader_options options = {
        .kafka = &retry->cli->settings->kafka,
        .client = "mserve",
        .topic = retry->source.topic,
        .group = group,
    };
    enum err rc;

    snprintf(group, sizeof(group), "%.200s.retry", options.kafka->topic_prefix);
    log->retry = retry;
    log->event_fd = options.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    rc = log_reader_open(&options, &log->reader);
    if (rc == ERR_OK)
        rc = take_all(log);
    log_reader_close(log->reader);
    close(log->event_fd);
    arena_release(&log->arena);
    arena_release(&log->blob_arena);
    free(log);
    return rc;
}
