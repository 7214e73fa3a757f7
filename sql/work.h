/*
 * work.h: what there is to do in the partitions that a worker holds, read from the chunk index.
 *
 * The index is read by job, not by position in the log, so that a small job behind a very long one
 * is seen at once. Only sealed jobs that have not ended are seen, and paused ones only when they are
 * to be cancelled or have expired.
 */
#ifndef MSERVE_SQL_WORK_H
#define MSERVE_SQL_WORK_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

enum work_wish {
    WORK_RUN,
    WORK_CANCEL, /* write `cancelled` rows on what has no row yet, from the index alone */
    WORK_EXPIRE, /* likewise `expired` */
    WORK_HOLD,   /* work_wishes() only: give back what has not begun; it may run again later */
};

/* What the rows of requests that never ran say, whoever writes them. */
#define WORK_ERROR_CANCELLED                                                                       \
    "{\"code\":\"batch_cancelled\",\"message\":\"This request was cancelled before it was "        \
    "done.\"}"
#define WORK_ERROR_EXPIRED                                                                         \
    "{\"code\":\"batch_expired\",\"message\":\"This request could not be executed before the "     \
    "completion window expired.\"}"

enum { WORK_MAP_BYTES = 128 };

/* Strings lie in the caller's arena. */
struct work_chunk {
    struct uuid job;
    int32_t chunk;
    int32_t part;
    int64_t first_line;
    uint32_t lines;
    uint32_t done_count;
    uint8_t
        done_map[WORK_MAP_BYTES]; /* bit i is 0x80 >> (i % 8) of byte i / 8, as PostgreSQL has it */
    int64_t first_offset;
    int64_t last_offset;
    int64_t bytes;
    int64_t work; /* tokens, estimated, of the whole chunk */
    const char *tenant;
    const char *endpoint;
    int32_t priority;
    int64_t created_us; /* of the job */
    enum work_wish wish;
    bool suspect;            /* lines of it were open when a worker died; see sql/quarantine.h */
    struct slice custom_ids; /* only beside a wish: each ended by a zero byte, zstd-compressed */
};

/* A chunk that the caller has under way, and does not want to be told of. */
struct work_in_hand {
    struct uuid job;
    int32_t chunk;
};

struct work_query {
    const char *topic;
    const int32_t *parts; /* of the topic, held */
    size_t parts_count;
    const struct work_in_hand *in_hand;
    size_t in_hand_count;
    uint32_t chunks_per_job;  /* in each partition; 0: 4 */
    uint32_t jobs_per_tenant; /* of the highest priority, the oldest and the newest; 0: 64 */
    bool wished_only;         /* only chunks that want cancelled or expired rows */
};

/* *ret lies in the arena; by tenant, priority (highest first), job, chunk. */
enum err work_open(struct db *db, const struct work_query *query, struct arena *arena,
                   struct work_chunk **ret, size_t *ret_count);

/*
 * What the users wish of these jobs: wishes[i] for jobs[i]; a job that has ended or is not there is
 * WORK_CANCEL, one that is paused WORK_HOLD unless it is to end. One query, each second.
 */
enum err work_wishes(struct db *db, const struct uuid *jobs, size_t count, enum work_wish *ret);

/*
 * The names in work_chunk.custom_ids, one for each line, in the arena. False: they are damaged; those
 * that cannot be read are empty, for each request has its row, even without its name.
 */
bool work_names(struct slice custom_ids, uint32_t lines, struct arena *arena, struct slice *ret);

/* A chunk that the log does not hold where the index said, as it was read under a claim. */
struct work_missing {
    struct uuid job;
    int32_t chunk;
    int32_t part;
    int64_t epoch;
    int64_t token;
    int64_t first_offset;
    int64_t last_offset;
};

/*
 * Tells the index of them: from now on work_open() passes them over, until they are sent again or have
 * a wish. marked[i] says whether missing[i] was marked: not when the partition is not the worker's any
 * more, or the chunk lies elsewhere by now. ERR_AGAIN, not logged: a lock was busy.
 */
enum err work_mark_missing(struct db *db, const struct uuid *worker, const char *topic,
                           const struct work_missing *missing, size_t count, bool *marked);

/* The custom_ids of a chunk (see above), for one whose wish came while it was under way. */
enum err work_custom_ids(struct db *db, const struct uuid *job, int32_t chunk, struct arena *arena,
                         struct slice *ret);

#endif
