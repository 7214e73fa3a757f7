/*
 * model.h: what the tables must hold, kept by plain arithmetic beside a random walk (walk.h).
 *
 * Copying a struct model is a snapshot of the database; what workers believe is not in it.
 */
#ifndef MSERVE_TESTS_FLOW_MODEL_H
#define MSERVE_TESTS_FLOW_MODEL_H

#include "config/buffer.h"
#include "tests/flow/queue.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MODEL_JOBS = 2,
    MODEL_LINES = 192,
    MODEL_WORKERS = 100,
    MODEL_BATCH_ROWS = 12,
    MODEL_BATCH_SAVED = 10,
    MODEL_BATCH_DISCARDS = 2,
    NOBODY = -1
};

/* A claim is known by its number here; the database's tokens are random. */
struct model_partition {
    int owner; /* a worker, or NOBODY */
    int64_t epoch;
    uint32_t claim;
};

struct model_worker {
    bool known; /* the database has it */
    bool open;
    int64_t seq, booked, reported;
    int64_t wip[MODEL_JOBS];
};

/* What a checkpoint holds; of it, what was there before its attempt. */
struct model_saved {
    bool there;
    int worker;
    uint32_t attempt;
    int64_t tokens, ns, before_tokens, before_ns;
};

struct model_line {
    struct model_saved saved;
    uint8_t told[MODEL_WORKERS]; /* bit n: the worker has said how its attempt n ended */
    bool done;
    int worker;
    enum row_status status;
    int64_t ns;
};

struct model_job {
    struct model_line line[MODEL_LINES];
    uint32_t partition_first;
    int64_t count[4]; /* by status */
    int64_t input, output, rows, shared, recompute, lost;
};

struct model {
    struct model_partition part[QUEUE_PARTITIONS];
    struct model_worker worker[MODEL_WORKERS];
    struct model_job job[MODEL_JOBS];
    int64_t held, taken, rows, handed, wip, shared, recompute, overhead, idle, lost;
    int64_t attempts, attempts_ns, kept_ns, kept_tokens;
};

/* A commit, in the model's words. */
struct model_row {
    uint32_t job, line;
    enum row_status status;
    int64_t ns, input, output;
};

struct model_save {
    uint32_t job, line, attempt;
    int64_t tokens, ns; /* since the one before */
};

struct model_batch {
    int worker;
    int64_t seq;
    struct {
        int32_t part;
        int64_t epoch, token;
        uint32_t claim;
    } part[QUEUE_PARTITIONS];
    struct model_row row[MODEL_BATCH_ROWS];
    struct model_save save[MODEL_BATCH_SAVED];
    struct {
        uint32_t job, line;
    } discard[MODEL_BATCH_DISCARDS];
    struct {
        uint32_t job, line;
        int64_t ns, kept_ns;
    } attempt[2];
    struct {
        int64_t wip, shared, recompute;
    } job[MODEL_JOBS];
    uint32_t parts, rows, saves, discards, attempts;
    int64_t held, overhead, idle, lost;
};

enum model_outcome { MODEL_OK, MODEL_BEFORE, MODEL_FENCED, MODEL_LOST };

struct model_answer {
    enum model_outcome outcome;
    uint32_t inserted, duplicate, fenced, late;
    uint32_t taken_over, discarded; /* checkpoints */
};

void model_init(struct model *model);

bool model_is_open(const struct model *model, int worker);
void model_register(struct model *model, int worker);
enum model_outcome model_renew(struct model *model, int worker, int64_t seq, int64_t reported);
enum model_outcome model_release(struct model *model, int worker, int32_t part);

/* Claims the lowest free partitions: which of them, in ret[0 .. *ret_count). */
enum model_outcome model_claim(struct model *model, int worker, uint32_t wanted,
                               uint32_t first_claim, int32_t *ret, uint32_t *ret_count);

struct model_answer model_commit(struct model *model, const struct model_batch *batch);

/* `held`: what the worker says it held; 0 when somebody else buries it. */
void model_bury(struct model *model, int worker, int64_t held);

/* All of it as lines of text, and the query that gives the same text from the tables. */
void model_write(const struct model *model, struct buffer *out);
extern const char model_query[];

#endif
