/*
 * ops.h: the operations of a backend: all in which devices differ. kernels/model/forward.c, the one
 * forward pass, calls them in the same order for every backend.
 *
 * Fused as far as a device profits (Q, K and V are one matrix; rotation, and writing to the KV
 * cache, one pass) and no further: each can be compared with `ref`'s on its own.
 *
 * RULES An operation only enqueues: it returns nothing, allocates nothing, waits for nothing.
 * Operations of a step run in the order of the calls, steps in the order of theirs. What goes wrong
 * is sticky and comes out of done(). Activations stay inside the backend: they have names here, not
 * addresses.
 *
 * NUMBERS Every output is a function of its row alone: it sums over its inputs in one order, however
 * many rows the step has. K and V are rounded to the type they are stored in before attention reads
 * them, and so are the queries and weights that meet them. Attention sums over positions in an order
 * that depends on the positions alone, whatever the step reads of them: a backend that works on parts
 * of a context side by side cuts it at multiples of a fixed number of positions and folds the parts
 * from left to right. Positions after the row's own are not read: a KV block may hold anything there.
 */
#ifndef MSERVE_KERNELS_OPS_H
#define MSERVE_KERNELS_OPS_H

#include "kernels/device.h"

struct gguf_tensor; /* kernels/model/gguf.h */

struct backend; /* a device with weights, KV cache and activations */
struct weight;  /* a matrix or vector as the backend keeps it */

/*
 * Activations: one row for each row of the step, or (the last two) for each row that is sampled. E, H,
 * G, D, F, V are the numbers of struct model_hyper (kernels/model/model.h).
 */
enum act {
    ACT_STREAM, /* [E] what the layers add to */
    ACT_NORMED, /* [E] */
    ACT_QKV,    /* [(H + 2 G) D] queries, keys, values */
    ACT_HEADS,  /* [H D] what attention gives */
    ACT_DELTA,  /* [E] to be added to the stream */
    ACT_PAIR,   /* [2 F] gate, up */
    ACT_FF,     /* [F] */
    ACT_PICKED, /* [E] */
    ACT_LOGITS, /* [V] */
    ACT_COUNT
};

/* A table that is not multiplied with need not be kept in the form that products want. */
enum weight_use {
    WEIGHT_GAIN = 1 << 0,   /* of norm: a vector */
    WEIGHT_LINEAR = 1 << 1, /* of linear */
    WEIGHT_EMBED = 1 << 2,  /* the table of embed, one tensor */
    /* Beside those, so that a backend may prepare its numbers in another way: */
    WEIGHT_FINAL = 1 << 3, /* the gain of the last norm, which feeds pool and gather */
    WEIGHT_HEAD = 1 << 4,  /* the matrix that makes the logits */
};

struct ops {
    const char *name;
    const void *own; /* what plan() and open() look up: a backend may have several tables */

    /* Fills all of *ret. */
    void (*plan)(const struct ops *ops, const struct model *model,
                 const struct device_limits *limits, struct engine_plan *ret);
    enum err (*open)(const struct ops *ops, const struct model *model,
                     const struct device_limits *limits, struct backend **ret);
    void (*close)(struct backend *backend); /* NULL is allowed */

    /*
     * The rows of 1 to 3 tensors, one after another, as one matrix for `uses` (enum weight_use). Lives
     * as long as the backend.
     */
    enum err (*weight)(struct backend *backend, const struct gguf_tensor *const *tensors,
                       uint32_t len, unsigned uses, const struct weight **ret);

    /* As in device.h. */
    struct slots *(*slots)(struct backend *backend);
    struct step *(*begin)(struct backend *backend, unsigned slot);
    enum err (*done)(struct backend *backend, unsigned slot, int timeout_ms,
                     struct step_result *ret);
    uint64_t (*clock_ns)(void);
    const char *(*numerics)(const struct backend *backend);

    /* Sampled at once at most: rows of ACT_PICKED and ACT_LOGITS. */
    uint32_t (*picked_max)(const struct backend *backend);

    /* The first operation of a step: its clock starts; reads the step's arrays but not want_*. */
    void (*start)(struct backend *backend, unsigned slot);

    /* STREAM = rows of `table` by token id; -1 is the token sampled last for the sequence's slot. */
    void (*embed)(struct backend *backend, unsigned slot, const struct weight *table);

    /* STREAM += DELTA, unless `first`; NORMED = gain * STREAM / sqrt(mean(STREAM^2) + eps). */
    void (*norm)(struct backend *backend, unsigned slot, const struct weight *gain, bool first);

    /* out = weight * in. PICKED has `rows` rows, all others those of the step: then `rows` is 0. */
    void (*linear)(struct backend *backend, unsigned slot, const struct weight *weight, enum act in,
                   enum act out, uint32_t rows);

    /* Rotates the queries and keys of QKV by position; K and V go to the layer's KV cache. */
    void (*qkv_post)(struct backend *backend, unsigned slot, uint32_t layer);

    /* HEADS = softmax(Q K^T / sqrt(D)) V, over the positions up to the row's own. */
    void (*attn)(struct backend *backend, unsigned slot, uint32_t layer);

    /* FF = silu(gate) * up. */
    void (*glu)(struct backend *backend, unsigned slot);

    /* Adds the rows of NORMED that belong to pooling slots to their pools. */
    void (*pool)(struct backend *backend, unsigned slot);

    /* PICKED[i] = NORMED[want_row[pick[i]]]; `pick` stays as it is until the step is done. */
    void (*gather)(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len);

    /* Result pick[i] of the step: a token from LOGITS[i], by the sampling of its slot. */
    void (*sample)(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len);

    /* The last operation: embeddings of the pooling slots that are wanted; the clock stops. */
    void (*end)(struct backend *backend, unsigned slot);

    /* What was enqueued so far may begin: after forward(), and after sample(). */
    void (*submit)(struct backend *backend);
};

#endif
