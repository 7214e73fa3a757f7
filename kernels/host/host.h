/*
 * host.h: a backend that computes on this machine's processors: the plumbing that `ref` and `cpu`
 * share. Operations go into a ring; one thread works them off in order, with a team's help, and keeps
 * the time. What differs is a small table: the arithmetic.
 *
 * host.c (memory, tables, enqueuing), queue.c (the ring and its thread), common.c (the operations
 * that only move numbers), team.h, memory.h.
 */
#ifndef MSERVE_KERNELS_HOST_HOST_H
#define MSERVE_KERNELS_HOST_HOST_H

#include "kernels/host/memory.h"
#include "kernels/host/team.h"
#include "kernels/model/forward.h"
#include "kernels/model/model.h"
#include "kernels/ops.h"
#include "kernels/sample.h"
#include "kernels/step.h"

#include <pthread.h>

enum { HOST_BLOCK = DEVICE_BLOCK_TOKENS, HOST_PICKED_MAX = 64 };

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

/*
 * The arithmetic of a backend. Each works on all rows of the step, on the worker's thread, and may
 * share loops with the team. plan() and open() come first; the rest between open and close.
 */
struct arithmetic {
    size_t size; /* of the backend's own struct, which begins with struct backend */
    bool pinned; /* as in team_new() */
    int level;   /* its own: which of several kinds */

    /* Fills weight_bytes and kv_bytes; adds to activation_bytes what is its own. */
    void (*plan)(const struct arithmetic *arithmetic, const struct model *model,
                 const struct device_limits *limits, struct engine_plan *ret);

    /* Takes the KV cache and scratch, from backend->memory. */
    enum err (*open)(struct backend *backend, const struct model *model);

    void (*embed)(struct backend *backend, const struct step *step, const struct weight *table);
    void (*norm)(struct backend *backend, uint32_t rows, const struct weight *gain, bool first);
    void (*linear)(struct backend *backend, const struct weight *weight, enum act in, enum act out,
                   uint32_t rows);
    void (*qkv_post)(struct backend *backend, const struct step *step, uint32_t layer);
    void (*attn)(struct backend *backend, const struct step *step, uint32_t layer);
    void (*glu)(struct backend *backend, uint32_t rows);
};

struct host_step {
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
    const struct arithmetic *arithmetic;
    struct model_hyper hyper;
    struct device_limits limits;
    struct memory memory; /* all arrays below, and the backend's own */
    struct team *team;
    struct slots slots;
    struct host_step steps[DEVICE_STEPS];
    struct queue queue;
    float *act[ACT_COUNT]; /* [rows][act_width], rows side by side */
    uint32_t act_width[ACT_COUNT];
    struct row *row;                /* [rows_max] */
    double *frequency;              /* [rope_dim / 2] radians per position */
    float *angle;                   /* [rows_max][rope_dim / 2] cosine, sine */
    uint32_t *last;                 /* [sequences_max] token sampled last */
    double *pool;                   /* [sequences_max][E] sums of final hidden states */
    struct sample_scratch *scratch; /* [threads] */
};

/* host.c: what struct ops and struct device_ops of a host backend are made of. */
void host_plan(const struct ops *ops, const struct model *model, const struct device_limits *limits,
               struct engine_plan *ret);
enum err host_open(const struct ops *ops, const struct model *model,
                   const struct device_limits *limits, struct backend **ret);
void host_close(struct backend *backend);
struct slots *host_slots(struct backend *backend);
struct step *host_begin(struct backend *backend, unsigned slot);
uint32_t host_picked_max(const struct backend *backend);
void host_start(struct backend *backend, unsigned slot);
void host_embed(struct backend *backend, unsigned slot, const struct weight *table);
void host_norm(struct backend *backend, unsigned slot, const struct weight *gain, bool first);
void host_linear(struct backend *backend, unsigned slot, const struct weight *weight, enum act in,
                 enum act out, uint32_t rows);
void host_qkv_post(struct backend *backend, unsigned slot, uint32_t layer);
void host_attn(struct backend *backend, unsigned slot, uint32_t layer);
void host_glu(struct backend *backend, unsigned slot);
void host_pool(struct backend *backend, unsigned slot);
void host_gather(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len);
void host_sample(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len);
void host_end(struct backend *backend, unsigned slot);
uint64_t host_clock_ns(const struct device *device);

/* All of a struct ops but name, own (its struct arithmetic), weight and numerics. */
#define HOST_OPS                                                                                   \
    .plan = host_plan, .open = host_open, .close = host_close, .slots = host_slots,                \
    .begin = host_begin, .done = queue_done, .clock_ns = queue_clock_ns,                           \
    .picked_max = host_picked_max, .start = host_start, .embed = host_embed, .norm = host_norm,    \
    .linear = host_linear, .qkv_post = host_qkv_post, .attn = host_attn, .glu = host_glu,          \
    .pool = host_pool, .gather = host_gather, .sample = host_sample, .end = host_end,              \
    .submit = queue_submit

/* All of a struct device_ops but name, plan and open. */
#define HOST_DEVICE                                                                                \
    .needs_model = true, .close = forward_close, .slots = forward_slots, .begin = forward_begin,   \
    .forward = forward_forward, .sample = forward_sample, .done = forward_done,                    \
    .clock_ns = host_clock_ns, .numerics = forward_numerics

/* Numbers of a row of an activation; threads that limits stand for; radians per position. */
uint32_t host_width(const struct model_hyper *hyper, enum act act);
uint32_t host_threads(const struct device_limits *limits);

static inline float *act_row(const struct backend *backend, enum act act, uint32_t row)
{
    return backend->act[act] + (size_t)row * backend->act_width[act];
}

/* queue.c */
void queue_start(struct backend *backend);
void queue_stop(struct backend *backend);
void queue_add(struct backend *backend, struct command command);
void queue_submit(struct backend *backend);
enum err queue_done(struct backend *backend, unsigned slot, int timeout_ms,
                    struct step_result *ret);
uint64_t queue_clock_ns(void);

/* common.c: does one command, itself or by the arithmetic. */
void run_command(struct backend *backend, const struct command *command);

#endif
