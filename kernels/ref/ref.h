/*
 * ref.h: the inside of the reference backend, shared by the files of this folder: ref.c (memory and
 * weights), queue.c (the thread that works), layers.c, linear.c and attention.c (the arithmetic).
 *
 * All numbers are floats; sums for norms and means are doubles. The arithmetic uses additions,
 * multiplications, divisions and square roots alone, each rounded by itself (-ffp-contract=off), so
 * it gives the same bits on every machine, for any number of threads, rows or vector lanes.
 */
#ifndef MSERVE_KERNELS_REF_REF_H
#define MSERVE_KERNELS_REF_REF_H

#include "kernels/model/model.h"
#include "kernels/ops.h"
#include "kernels/ref/team.h"
#include "kernels/sample.h"
#include "kernels/step.h"

#include <pthread.h>

enum { BLOCK = DEVICE_BLOCK_TOKENS, LANES = 16, PICKED_MAX = 64 };

/* Four floats that are added and multiplied side by side. */
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/*
 * A matrix of `rows` outputs by `columns` inputs, in tiles of LANES outputs:
 * value[tile][column][lane], lanes past the last row are 0. A vector is one row in order.
 */
struct weight {
    uint32_t rows; /* 0: a vector */
    uint32_t columns;
    float *value;
    struct weight *next; /* the backend's list */
};

/* Rows of the step that is being worked on. */
struct row {
    uint32_t position;
    uint32_t slot; /* of its sequence */
};

enum command_kind {
    COMMAND_START,
    COMMAND_EMBED,
    COMMAND_NORM,
    COMMAND_LINEAR,
    COMMAND_QKV_POST,
    COMMAND_ATTN,
    COMMAND_GLU,
    COMMAND_POOL,
    COMMAND_GATHER,
    COMMAND_SAMPLE,
    COMMAND_END,
};

/* One operation, as it was enqueued. */
struct command {
    enum command_kind kind;
    unsigned slot;
    const struct weight *weight;
    enum act in, out;
    uint32_t layer;
    bool first;
    const uint32_t *pick;
    uint32_t len; /* of pick; rows of LINEAR, 0 for those of the step */
};

struct ref_step {
    struct step step;
    struct sampled sampled;
    uint64_t ready_ns; /* when it was enqueued */
    uint64_t begin_ns, end_ns;
    uint64_t part_ns[PART_COUNT];
    bool done; /* under queue.lock */
};

/* Written by the caller's thread, read by the worker. */
struct queue {
    pthread_t worker;
    bool running; /* the thread was started */
    pthread_mutex_t lock;
    pthread_cond_t submitted;
    pthread_cond_t finished;
    struct command *ring; /* [ring_len]: two steps fit, so it is never full */
    uint32_t ring_len;
    uint64_t written;   /* the caller's alone */
    uint64_t published; /* under lock, as is: */
    bool stop;
};

struct backend {
    struct model_hyper hyper;
    struct device_limits limits;
    struct team *team;
    struct weight *weights;
    struct slots slots;
    struct ref_step steps[DEVICE_STEPS];
    struct queue queue;
    float *act[ACT_COUNT];
    uint32_t act_width[ACT_COUNT];
    struct row *row;                /* [rows_max] */
    double *frequency;              /* [rope_dim / 2] radians per position */
    float *angle;                   /* [rows_max][rope_dim / 2] cosine, sine */
    bool half;                      /* K, V and what meets them are rounded to half precision */
    float *k;                       /* [layers][blocks][G][D][BLOCK] */
    float *v;                       /* [layers][blocks][G][BLOCK][D] */
    uint32_t *last;                 /* [sequences_max] token sampled last */
    double *pool;                   /* [sequences_max][E] sums of final hidden states */
    struct sample_scratch *scratch; /* [threads] */
    float **score;                  /* [threads][context_max] */
};

/* queue.c */
void queue_start(struct backend *backend);
void queue_stop(struct backend *backend);
void queue_add(struct backend *backend, struct command command);
void queue_submit(struct backend *backend);
enum err queue_done(struct backend *backend, unsigned slot, int timeout_ms,
                    struct step_result *ret);
uint64_t queue_clock_ns(void);

/* layers.c: does one command. */
void run_command(struct backend *backend, const struct command *command);

/* linear.c */
void linear(struct backend *backend, const struct weight *weight, const float *in, float *out,
            uint32_t rows);

/* attention.c: of the step's rows, for one layer. */
void attention(struct backend *backend, uint32_t layer, uint32_t rows);

/* Where head group `group` of the block with this position of a slot begins, in backend->k or v. */
static inline size_t kv_at(const struct backend *backend, uint32_t layer, uint32_t slot,
                           uint32_t position, uint32_t group)
{
    const struct model_hyper *h = &backend->hyper;
    uint32_t block =
        backend->slots.blocks[(size_t)slot * backend->slots.blocks_stride + position / BLOCK];

    return (((size_t)layer * backend->limits.blocks + block) * h->kv_heads + group) * h->head_dim *
           BLOCK;
}

#endif
