/* upload.c: load, send, confirm, write down; then seal. */
#include "producer/upload.h"
#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/sha256.h"
#include "producer/interrupt.h"
#include "producer/patience.h"
#include "producer/publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum {
    ROWS_MAX = 64,      /* chunks that are written down in one transaction */
    ROWS_EVERY_MS = 50, /* how much a kill can make to be sent again */
    HEARD_EVERY_MAX_MS = 60000,
    SILENCE_MS = 5000, /* of the brokers, after which people are told what is waited for */
    POLL_MS = 100,
    IDS_LEVEL = 3, /* zstd */
    BLOB_LEVEL = 3,
};

struct upload {
    struct upload_options options;
    struct publisher *publisher; /* NULL until something is to be sent */
    bool own_publisher;
    struct chunk_reader *reader;
    struct chunk *next; /* where the next chunk to be sent lies; its bytes are not loaded */
    bool found;         /* there is one */
    struct job_chunk_map there;
    struct arena arena; /* of `there` */

    struct job_chunk row[ROWS_MAX]; /* confirmed, not written down */
    uint32_t rows;
    struct arena rows_arena;
    uint64_t rows_since_ns;
    uint64_t heard_ns;

    uint32_t chunks;        /* found in the index of lines so far */
    uint64_t requests_done; /* written down, now or before */
    uint64_t requests_sent; /* of these, by this upload */
    bool ended;             /* all chunks are sent */

    struct patience patience; /* with PostgreSQL */
    uint32_t on_the_way;      /* messages, at the last look, */
    uint64_t quiet_since_ns;  /* since when nothing of them was confirmed, */
    bool told;                /* and that people were told */
};

/* Whether a statement is to be sent again; then it has waited, and the database is connected. */
static bool again(struct upload *upload, enum err rc)
{
    if (rc == ERR_OK)
        patience_reset(&upload->patience);
    return rc != ERR_OK && patience_try(&upload->patience, upload->options.db, rc);
}

static enum err put_blob_cb(void *data, const uint8_t sha256[32], struct slice body)
{
    struct upload *upload = data;
    size_t cap = ZSTD_compressBound(body.len);
    char *small = xmalloc(cap);
    size_t len = ZSTD_compress(small, cap, body.data, body.len, BLOB_LEVEL);
    enum err rc;

    if (ZSTD_isError(len)) {
        rc = fail(ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(len));
    } else {
        do
            rc = blob_put(upload->options.db, sha256, (struct slice){small, len});
        while (again(upload, rc));
    }
    free(small);
    return rc;
}

static enum err compress_ids(struct upload *upload, const struct chunk *chunk, struct slice *ret)
{
    size_t cap = ZSTD_compressBound(chunk->ids.len);
    char *small = arena_alloc(&upload->rows_arena, cap);
    size_t len = ZSTD_compress(small, cap, chunk->ids.data, chunk->ids.len, IDS_LEVEL);

    if (ZSTD_isError(len))
        return fail(ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(len));
    *ret = (struct slice){small, len};
    return ERR_OK;
}

static enum err add_chunks(struct upload *upload)
{
    const struct upload_options *options = &upload->options;

    return FAILPOINT_CALL(
        "chunk.row", ERR_DATABASE,
        job_add_chunks(options->db, &options->job->job, upload->row, upload->rows));
}

/* Writes down what is confirmed. */
static enum err flush_rows(struct upload *upload)
{
    const struct upload_options *options = &upload->options;
    enum err rc;

    if (upload->rows == 0)
        return ERR_OK;
    do
        rc = add_chunks(upload);
    while (again(upload, rc));
    if (rc == ERR_LOST && options->job->sealed)
        rc = ERR_OK; /* sealed before we came: what was missing is in its place now */
    if (rc != ERR_OK)
        return rc;
    for (uint32_t i = 0; i < upload->rows; i++) {
        upload->requests_done += upload->row[i].lines;
        upload->requests_sent += upload->row[i].lines;
    }
    upload->rows = 0;
    arena_clear(&upload->rows_arena);
    return ERR_OK;
}

static enum err add_row(struct upload *upload, const struct chunk *chunk)
{
    const struct job *job = upload->options.job;
    struct job_chunk *row = &upload->row[upload->rows];
    enum err rc;

    *row = (struct job_chunk){
        .chunk = (int32_t)chunk->number,
        .lines = chunk->lines,
        .first_line = (int64_t)chunk->first_line,
        .part = publish_partition(job->partition_first, chunk->number, job->partitions),
        .first_offset = chunk->first_offset,
        .last_offset = chunk->last_offset,
        .bytes = (int64_t)chunk->bytes,
        .work = (int64_t)chunk->work,
    };
    sha256_of(buffer_slice(&chunk->values), row->sha256);
    rc = compress_ids(upload, chunk, &row->custom_ids);
    if (rc != ERR_OK)
        return rc;
    if (upload->rows++ == 0)
        upload->rows_since_ns = clock_mono_ns();
    return upload->rows == ROWS_MAX ? flush_rows(upload) : ERR_OK;
}

static enum err collect(struct upload *upload)
{
    struct chunk *chunk;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && (chunk = publisher_confirmed(upload->publisher)) != NULL) {
        rc = FAILPOINT_ERR("produced", ERR_BROKER);
        if (rc == ERR_OK)
            rc = add_row(upload, chunk);
        publisher_recycle(upload->publisher, chunk);
    }
    if (rc == ERR_OK && upload->rows > 0 &&
        clock_mono_ns() - upload->rows_since_ns > (uint64_t)ROWS_EVERY_MS * CLOCK_NS_PER_MS)
        rc = flush_rows(upload);
    return rc;
}

static enum err say_heard(struct upload *upload)
{
    const struct upload_options *options = &upload->options;
    uint64_t every_ms = options->settings->submit.upload_abandoned_after_ms / 4;
    uint64_t now = clock_mono_ns();
    enum err rc;

    if (every_ms > HEARD_EVERY_MAX_MS)
        every_ms = HEARD_EVERY_MAX_MS;
    if (now - upload->heard_ns < every_ms * CLOCK_NS_PER_MS)
        return ERR_OK;
    upload->heard_ns = now;
    do
        rc = job_heard(options->db, &options->job->job);
    while (again(upload, rc));
    return rc;
}

static void show(const struct upload *upload)
{
    const struct upload_options *options = &upload->options;
    char done[32], note[64];

    snprintf(note, sizeof(note), "%s requests", progress_number(upload->requests_done, done));
    progress_show(options->progress, "sending", upload->requests_done, options->scan->requests,
                  note, clock_mono_ns());
}

/* Messages that no broker confirms are kept and sent until their time is over: that is said. */
static void notice_silence(struct upload *upload)
{
    uint32_t on_the_way = publisher_on_the_way(upload->publisher);
    uint64_t now = clock_mono_ns();

    if (on_the_way == 0 || on_the_way != upload->on_the_way) {
        upload->on_the_way = on_the_way;
        upload->quiet_since_ns = now;
        upload->told = false;
    } else if (!upload->told &&
               now - upload->quiet_since_ns > (uint64_t)SILENCE_MS * CLOCK_NS_PER_MS) {
        patience_say("Kafka", upload->options.settings->submit.outage_max_ms);
        upload->told = true;
    }
}

static bool is_there(const struct job_chunk_map *there, uint32_t chunk)
{
    return chunk < there->bits && (there->map[chunk / 8] >> (chunk % 8) & 1) != 0;
}

/* The caller's publisher, or one of our own. */
static enum err connect_kafka(struct upload *upload)
{
    const struct job *job = upload->options.job;
    struct publisher_options options = {
        .kafka = &upload->options.settings->kafka,
        .topic = job->topic,
        .partitions = job->partitions,
        .message_timeout_ms = (uint32_t)upload->options.settings->submit.outage_max_ms,
    };
    struct publisher_job publisher_job = {
        .tenant = {job->tenant, strlen(job->tenant)},
        .partition_first = job->partition_first,
        .partitions = job->partitions,
    };

    if (upload->options.publisher != NULL) {
        upload->publisher = upload->options.publisher;
    } else {
        enum err rc = publisher_open(&options, &upload->publisher);

        if (rc != ERR_OK)
            return rc;
        upload->own_publisher = true;
    }
    memcpy(publisher_job.job, job->job.bytes, sizeof(publisher_job.job));
    publisher_begin(upload->publisher, &publisher_job);
    return ERR_OK;
}

/* Finds the next chunk that is to be sent; upload->ended when there is none. */
static enum err find_next(struct upload *upload)
{
    while (!upload->found && !upload->ended) {
        enum err rc = chunk_reader_next(upload->reader, upload->next);

        if (rc == ERR_NOT_FOUND) {
            upload->ended = true;
            break;
        }
        if (rc != ERR_OK)
            return rc;
        upload->chunks++;
        upload->found = !is_there(&upload->there, upload->next->number);
        if (!upload->found)
            upload->requests_done += upload->next->lines;
    }
    return ERR_OK;
}

/* Loads and sends the chunk that was found, if there is room; upload->found says whether. */
static enum err send_found(struct upload *upload)
{
    struct chunk *chunk = publisher_chunk(upload->publisher);
    enum err rc;

    if (chunk == NULL)
        return ERR_OK;
    chunk->number = upload->next->number;
    chunk->first_line = upload->next->first_line;
    chunk->lines = upload->next->lines;
    upload->found = false;
    rc = chunk_reader_load(upload->reader, chunk);
    if (rc == ERR_OK)
        return publisher_send(upload->publisher, chunk);
    publisher_recycle(upload->publisher, chunk);
    return rc;
}

/* One turn: send what there is room for, and see what has arrived. */
static enum err turn(struct upload *upload)
{
    enum err rc = ERR_OK;
    bool had = upload->found;

    if (upload->publisher == NULL)
        rc = connect_kafka(upload);
    if (rc == ERR_OK && had)
        rc = send_found(upload);
    if (rc == ERR_OK)
        rc = publisher_poll(upload->publisher, had && !upload->found ? 0 : POLL_MS, upload->ended);
    if (rc == ERR_OK)
        notice_silence(upload);
    if (rc == ERR_OK)
        rc = collect(upload);
    if (rc == ERR_OK)
        rc = say_heard(upload);
    return rc == ERR_OK && interrupted() ? ERR_INTERRUPTED : rc;
}

static bool is_under_way(const struct upload *upload)
{
    return upload->found ||
           (upload->publisher != NULL && publisher_on_the_way(upload->publisher) > 0);
}

/* What is confirmed is written down also when a signal or a silent broker ends the upload. */
static enum err send_all(struct upload *upload)
{
    enum err rc = find_next(upload);
    enum err last;

    while (rc == ERR_OK && is_under_way(upload)) {
        rc = turn(upload);
        if (rc == ERR_OK)
            rc = find_next(upload);
        show(upload);
    }
    if (rc != ERR_OK && rc != ERR_INTERRUPTED && rc != ERR_BROKER)
        return rc;
    last = flush_rows(upload);
    return last != ERR_OK ? last : rc;
}

static enum err seal(struct upload *upload)
{
    const struct upload_options *options = &upload->options;
    const struct scan *scan = options->scan;
    enum err rc = input_check_unchanged(options->input);

    if (rc != ERR_OK)
        return rc;
    do
        rc = FAILPOINT_CALL("sealed", ERR_DATABASE,
                            job_seal(options->db, &options->job->job, upload->chunks,
                                     (int64_t)scan->requests, (int64_t)scan->blanks));
    while (!(rc == ERR_AGAIN && db_sqlstate(options->db)[0] == '\0') && again(upload, rc));
    return rc; /* ERR_AGAIN without an error of the server's: the chunks do not add up */
}

static enum err prepare(struct upload *upload)
{
    const struct upload_options *options = &upload->options;
    struct chunk_reader_options reader = {
        .input = options->input,
        .index = options->scan->index,
        .lines_max = options->job->chunk_lines_max,
        .bytes_max = options->job->chunk_bytes_max,
        .inline_bytes_max = options->settings->submit.inline_bytes_max,
        .put_blob_cb = put_blob_cb,
        .data = upload,
    };
    enum err rc;

    arena_clear(&upload->arena);
    chunk_reader_free(upload->reader);
    upload->reader = chunk_reader_new(&reader);
    upload->chunks = 0;
    upload->requests_done = 0;
    upload->found = upload->ended = false;
    do
        rc = job_chunks_there(options->db, &options->job->job, &upload->arena, &upload->there);
    while (again(upload, rc));
    return rc;
}

enum { SEALS_MAX = 3 }; /* the index may lose rows between sending and sealing, but not for ever */

enum err upload_run(const struct upload_options *options, uint64_t *ret_sent)
{
    struct upload *upload = xcalloc(1, sizeof(*upload));
    enum err rc = ERR_AGAIN;

    upload->options = *options;
    upload->patience.limit_ms = options->settings->submit.outage_max_ms;
    upload->next = xcalloc(1, sizeof(*upload->next));
    for (int tries = 0; tries < SEALS_MAX && rc == ERR_AGAIN; tries++) {
        rc = prepare(upload);
        if (rc == ERR_OK)
            rc = send_all(upload);
        if (rc == ERR_OK)
            rc = seal(upload);
    }
    if (rc == ERR_AGAIN)
        rc = fail(ERR_DATABASE, "the index does not keep the chunks that are written into it");
    if (rc == ERR_DATABASE && interrupted())
        rc = ERR_INTERRUPTED;
    *ret_sent = upload->requests_sent;
    progress_wipe(options->progress);
    if (upload->own_publisher)
        publisher_close(upload->publisher);
    chunk_reader_free(upload->reader);
    arena_release(&upload->arena);
    arena_release(&upload->rows_arena);
    free(upload->next);
    free(upload);
    return rc;
}
