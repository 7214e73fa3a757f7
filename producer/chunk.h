/*
 * chunk.h: a run of a job's lines on its way into the log: read from the input by the index, held
 * until every message of it is confirmed.
 *
 * One thread builds, sends and confirms.
 */
#ifndef MSERVE_PRODUCER_CHUNK_H
#define MSERVE_PRODUCER_CHUNK_H

#include "config/buffer.h"
#include "producer/chunk_cut.h"
#include "producer/input.h"
#include "producer/line_index.h"
#include "producer/message.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHUNK_LINES_MAX = 1024 };

struct chunk_line {
    size_t body_at; /* in chunk->values */
    uint32_t body_len;
    uint32_t id_at; /* in chunk->ids */
    uint32_t id_len;
    uint32_t error_at;  /* in chunk->errors */
    uint32_t error_len; /* 0: valid */
    bool has_blob;
    uint8_t blob[MESSAGE_BLOB_BYTES];
};

struct chunk {
    uint32_t number;
    uint64_t first_line;
    uint32_t lines;
    uint64_t work;
    uint64_t bytes; /* of the message values */
    struct chunk_line line[CHUNK_LINES_MAX];
    struct buffer values; /* each followed by a newline: what chunks.sha256 is of */
    struct buffer ids;    /* decoded, each followed by a zero byte */
    struct buffer errors; /* JSON, one behind the other */

    /* What the delivery reports said (publish.c). */
    uint32_t answered; /* messages that got a report */
    uint32_t sent;
    bool failed; /* at least one was not delivered */
    int64_t first_offset, last_offset;
    struct chunk *next; /* in a list of the publisher */
};

/* Stores a body that is too large for the log. `body` is borrowed. */
typedef enum err chunk_blob_fn(void *data, const uint8_t sha256[32], struct slice body);

struct chunk_reader_options {
    struct input *input;
    struct line_index *index;
    uint32_t lines_max; /* of the job */
    uint32_t bytes_max;
    uint64_t inline_bytes_max;
    chunk_blob_fn *put_blob_cb;
    void *data;
};

/* Walks through a job's chunks in order. */
struct chunk_reader;

struct chunk_reader *chunk_reader_new(const struct chunk_reader_options *options);
void chunk_reader_free(struct chunk_reader *reader); /* NULL is allowed */

/*
 * Finds the next chunk: its number, first line and number of lines. ERR_NOT_FOUND, not logged, at
 * the end. Only the index is read.
 */
enum err chunk_reader_next(struct chunk_reader *reader, struct chunk *ret);

/* Reads the bytes of the chunk that chunk_reader_next() found last, and stores its large bodies. */
enum err chunk_reader_load(struct chunk_reader *reader, struct chunk *chunk);

/* The message of one of its lines; `job` and `tenant` are the caller's to fill in. */
void chunk_message(const struct chunk *chunk, uint32_t line, struct message *ret);

void chunk_release(struct chunk *chunk);

#endif
