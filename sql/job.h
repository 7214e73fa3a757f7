/*
 * job.h: a job from its first INSERT to its seal, and what people ask about it.
 *
 * The submitter's order of calls: job_open -> (produce a chunk, wait for its delivery reports)
 * job_add_chunks … -> job_seal. Any of them may be repeated, by the same process or by another that
 * runs the same command: what is there already is left as it is. job_heard() is called at least
 * each quarter of submit.upload_abandoned_after in between.
 *
 * Errors as in db.h. The tenant is that of the PostgreSQL role; nobody can choose another.
 */
#ifndef MSERVE_SQL_JOB_H
#define MSERVE_SQL_JOB_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

enum job_state {
    JOB_VALIDATING, /* uploading: no line runs before the seal */
    JOB_IN_PROGRESS,
    JOB_FINALIZING,
    JOB_COMPLETED,
    JOB_FAILED,
    JOB_EXPIRED,
    JOB_CANCELLING,
    JOB_CANCELLED,
};

const char *job_state_name(enum job_state state); /* OpenAI's word: "in_progress" */
bool job_state_is_terminal(enum job_state state);

/* The state of that name; ERR_SCHEMA, with a sentence, when this program knows none. */
enum err job_state_parse(struct slice name, enum job_state *ret);

/* What a job is made from. Strings are borrowed for the call; NULL is allowed where it says so. */
struct job_spec {
    const char *idempotency_key;
    uint8_t content_sha256[32];
    const char *input_name;
    const char *endpoint;
    const char *tier;
    const char *model; /* NULL: the lines name several, or none */
    const char *topic;
    uint32_t partitions;
    uint32_t chunk_lines_max; /* 1..1024 */
    uint32_t chunk_bytes_max;
    const char *completion_window; /* as the user said it: "24h" */
    uint64_t window_ms;            /* the same */
    struct slice metadata;         /* a JSON object; {NULL, 0}: none */
    int32_t priority;
};

/* A job as the row says. Strings lie in the caller's arena. */
struct job {
    struct uuid job;
    enum job_state state;
    const char *tenant;
    const char *topic;
    uint32_t partitions;
    uint32_t partition_first; /* chunk c goes to partition (partition_first + c) % partitions */
    uint32_t chunk_lines_max;
    uint32_t chunk_bytes_max;
    bool sealed;
    bool made;     /* by this job_open() */
    int64_t lines; /* once sealed */
    int64_t created_us;
    int64_t expires_us;
};

/*
 * Finds the job of this key, or makes it. A job that is found keeps its own chunk limits, partitions
 * and topic: the caller goes by *ret. ERR_CONFLICT, not logged: the key belongs to other content.
 * Whether its other options are those of `spec` is for the caller to compare.
 */
enum err job_open(struct db *db, const struct job_spec *spec, struct arena *arena, struct job *ret);

/* One job of this tenant. ERR_NOT_FOUND, not logged. */
enum err job_get(struct db *db, const struct uuid *job, struct arena *arena, struct job *ret);

/* A confirmed chunk: all its messages are in the log. */
struct job_chunk {
    int32_t chunk;
    uint32_t lines; /* 1..1024 */
    int64_t first_line;
    int32_t part;
    int64_t first_offset;
    int64_t last_offset;
    int64_t bytes;
    uint8_t sha256[32];
    struct slice custom_ids; /* each ended by a zero byte, zstd-compressed */
    int64_t work;            /* tokens, estimated */
};

/*
 * Adds chunks to the index, in one transaction. A chunk that is there stays as it is, unless it is
 * marked missing: then it gets these offsets. ERR_LOST, not logged: the job is sealed or has ended,
 * stop and look at it with job_get(); what was missing has been replaced nevertheless.
 */
enum err job_add_chunks(struct db *db, const struct uuid *job, const struct job_chunk *chunks,
                        size_t count);

/* Which chunks the index has, whole: bit c of `map`. Those marked missing are not in it. */
struct job_chunk_map {
    uint8_t *map;
    uint32_t bits; /* highest chunk with a row + 1 */
    uint32_t count;
};

enum err job_chunks_there(struct db *db, const struct uuid *job, struct arena *arena,
                          struct job_chunk_map *ret);

/*
 * Seals the job: from here on it is accepted. ERR_AGAIN, not logged: the chunks in the index are not
 * `chunks` in number with `lines` lines: send what job_chunks_there() lacks. ERR_LOST, not logged:
 * it has ended before. A job that is sealed already, with the same lines, is ERR_OK.
 */
enum err job_seal(struct db *db, const struct uuid *job, uint32_t chunks, int64_t lines,
                  int64_t lines_blank);

/* The submitter is alive. */
enum err job_heard(struct db *db, const struct uuid *job);

/*
 * Asks for the end of a job: a job that is not sealed ends at once and leaves no rows, a sealed one
 * becomes `cancelling`, and its workers write the rows. *ret_state is what it is now: a job that had
 * ended stays as it was. ERR_NOT_FOUND, not logged.
 */
enum err job_cancel(struct db *db, const struct uuid *job, enum job_state *ret_state);

/* Stores a large body (zstd-compressed by the caller) of this tenant, under the sha256 of what it was. */
enum err blob_put(struct db *db, const uint8_t sha256[32], struct slice compressed);

/* A body that the tenant of `job` stored; the bytes lie in the arena. ERR_NOT_FOUND, not logged. */
enum err blob_get(struct db *db, const struct uuid *job, const uint8_t sha256[32],
                  struct arena *arena, struct slice *ret);

/*
 * Makes a tier known: rows in `partitions` for 0..count - 1 and in `models` for each name. Repeated
 * with more partitions it adds those; with fewer it changes nothing. *ret_partitions is how many
 * there are.
 */
enum err tier_register(struct db *db, const char *tier, const char *topic, uint32_t partitions,
                       const struct slice *served_names, size_t names, uint32_t *ret_partitions);

#endif
