/*
 * commit.h: the fenced commit: results, progress and books of one worker in one transaction.
 *
 * The rows and checkpoints go by COPY into a temporary table, holding no lock. Then, without waiting
 * for us again, the server runs mserve.commit_batch() and COMMIT: gate (the worker is open and its
 * last commit was seq - 1), fence (the partitions are still its own), bitmaps, rows, checkpoints,
 * books. Before, it looks whether each job is still an accepted one: a failover may have taken that
 * back.
 *
 * COST A checkpoint row holds what its request has cost so far, in all attempts. Whoever writes a
 * row or a newer checkpoint says only what came since: the server adds what the checkpoint held, and
 * books it as taken over. Of a cancelled or expired row, and of a row that was there already, it goes
 * to `attempts` and lost instead.
 *
 * A batch is frozen: after an unknown outcome the caller gives the same batch again, unchanged, under
 * the same number, until it gets ERR_OK or ERR_LOST. It never lands twice.
 *
 * One thread uses a struct commit at a time, with a connection of its own.
 */
#ifndef MSERVE_SQL_COMMIT_H
#define MSERVE_SQL_COMMIT_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

enum row_status { ROW_COMPLETED, ROW_FAILED, ROW_CANCELLED, ROW_EXPIRED };

/* A partition in which rows of this batch lie, as it was claimed. */
struct commit_partition {
    const char *topic;
    int32_t part;
    int64_t epoch;
    int64_t token;
};

struct commit_chunk {
    struct uuid job;
    int32_t chunk;
    uint32_t partition; /* index into the batch's partitions */
    int64_t first_line;
    uint32_t lines; /* 1..1024 */
    bool suspect;   /* lines of it may be suspects: with their row that ends */
};

/* One result. Everything is borrowed. */
struct commit_row {
    uint32_t chunk; /* index into the batch's chunks */
    int64_t line;   /* of the job; inside the chunk; once in a batch */
    struct slice custom_id;
    enum row_status status;
    int16_t status_code;   /* the HTTP status a server would have answered; 0: it never ran */
    struct slice response; /* a JSON value; {NULL, 0}: none */
    struct slice error;    /* a JSON object {code, message}; {NULL, 0}: none */
    uint32_t input_tokens;
    uint32_t cached_tokens;
    uint32_t output_tokens;
    uint64_t gpu_ns;         /* since its checkpoint, if it has one */
    uint32_t attempt;        /* from 1 */
    uint32_t resumed_tokens; /* of the output tokens, those that earlier attempts had generated */
    uint64_t recompute_ns;   /* spent on reading again: beside gpu_ns, and in commit_job too */
    bool numerics_changed;   /* resumed from a checkpoint of other numerics: may differ */
};

/*
 * An unfinished request: replaces the checkpoint that is there. Once in a batch, and not beside a
 * row or a discard of its line. If the line has its row, nothing is written: gpu_ns is lost.
 */
struct commit_checkpoint {
    uint32_t chunk;   /* index into the batch's chunks */
    int64_t line;     /* of the job; inside the chunk */
    uint32_t attempt; /* the one that goes on */
    uint32_t tokens;  /* in `state`, of all attempts */
    uint64_t gpu_ns;  /* since the checkpoint before, of whichever attempt */
    struct slice state;
};

/*
 * A checkpoint that cannot be used: it is deleted, its cost is lost, the request starts over. One
 * that is not there any more is passed over.
 */
struct commit_discard {
    uint32_t chunk;
    int64_t line;
};

enum attempt_why {
    ATTEMPT_PREEMPTED,     /* its worker was asked to go */
    ATTEMPT_CRASHED,       /* its worker died, and somebody saw it */
    ATTEMPT_HUNG,          /* likewise: no step for too long */
    ATTEMPT_OUT_OF_MEMORY, /* likewise: the host had no more */
    ATTEMPT_VANISHED,      /* its worker was not heard of any more */
    ATTEMPT_FENCED,        /* its partition went to another */
    ATTEMPT_DEADLINE,      /* the job's window or a time limit passed */
    ATTEMPT_CANCELLED,     /* the job was cancelled */
    ATTEMPT_DUPLICATE,     /* a row was there */
    ATTEMPT_UNUSABLE,      /* a checkpoint that could not be used */
    ATTEMPT_HELD,          /* its job was paused: it goes on from its checkpoint */
};

/*
 * A run of a request that ended without a row. Its gpu_ns are lost, and no checkpoint holds them;
 * what the line's checkpoint holds is booked by the server, where the batch deletes it.
 */
struct commit_attempt {
    struct uuid job;
    int64_t line;
    uint64_t gpu_ns;
    enum attempt_why why;
    uint32_t attempt;    /* from 1; 0: 1 */
    int32_t tokens_kept; /* that this attempt generated and a checkpoint has; -1: not known */
    int32_t tokens_lost; /* likewise, that nothing has */
    uint64_t kept_ns;    /* of this attempt, in a checkpoint */
    uint64_t recompute_ns;
};

/* What a job has of the books, beside its rows and attempts. A job appears once. */
struct commit_job {
    struct uuid job;
    uint64_t wip_ns; /* now, in its unfinished requests */
    uint64_t shared_ns;
    uint64_t recompute_ns;
};

/* All but wip_ns: since the commit before. */
struct commit_books {
    uint64_t held_ns;
    uint64_t wip_ns; /* now, in all unfinished requests */
    uint64_t shared_ns;
    uint64_t recompute_ns;
    uint64_t overhead_ns;
    uint64_t idle_ns;
    uint64_t lost_ns; /* beside the attempts: of no job */
};

struct commit_batch {
    struct uuid worker;
    int64_t token;
    int64_t seq; /* 1 for a worker's first, then one more each */
    uint64_t lease_ms;
    const struct commit_partition *partitions;
    const struct commit_chunk *chunks;
    const struct commit_row *rows;
    const struct commit_checkpoint *checkpoints;
    const struct commit_discard *discards;
    const struct commit_attempt *attempts;
    const struct commit_job *jobs;
    uint32_t partitions_count;
    uint32_t chunks_count;
    uint32_t rows_count;
    uint32_t checkpoints_count;
    uint32_t discards_count;
    uint32_t attempts_count;
    uint32_t jobs_count;
    struct commit_books books;
    uint64_t sampled;     /* tokens that the engine sampled since the commit before, kept or not */
    struct slice running; /* JSON: the set that is to run apart; {NULL, 0}: nothing is said of it */
    bool ends_running;    /* the set that was named before is through */
};

struct commit_result {
    bool landed_before; /* an earlier sending had landed; the counts below are not known */
    uint32_t rows_inserted;
    uint32_t rows_duplicate;   /* a row was there: their cost went to attempts and lost */
    uint32_t checkpoints_late; /* likewise: not written */
    uint32_t rows_unstorable;  /* became failed rows `result_unstorable` */
    const uint32_t *fenced; /* with ERR_AGAIN: indexes of partitions that are not ours any more */
    uint32_t fenced_count;  /* valid until the next call */
};

struct commit;

/* Takes the connection's options, not a connection: it connects, and again when it was lost. */
enum err commit_open(const struct db_options *options, struct commit **ret);
void commit_close(struct commit *commit); /* NULL is allowed */

/*
 * ERR_OK        it landed, now or before.
 * ERR_AGAIN     nothing was written. With fenced_count > 0: drop those partitions and what was
 *               theirs, its cost to `attempts`, and give the rest anew under the same number. Without:
 *               give it again unchanged, after a pause (deadlock, time-out).
 * ERR_DATABASE  the outcome is unknown: give it again unchanged, after a pause.
 * ERR_LOST      the worker is buried, or the database went back: leave (lease.h).
 * others        as in db.h: nothing was written, and the same batch would fail again.
 */
enum err commit_run(struct commit *commit, const struct commit_batch *batch,
                    struct commit_result *ret);

/* Its connection, for tests. */
struct db *commit_db(struct commit *commit);

#endif
