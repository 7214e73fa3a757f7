/*
 * device.h: all that the engine's core sees of a device: forward, sample, done. Asynchronous, two
 * steps in flight; what a step works on is flat arrays that the device owns and the core fills.
 *
 * A step slot (0 or 1) goes round: begin() gives its arrays, forward() and sample() enqueue, done()
 * waits and hands out what was sampled; then the slot is free. Between forward() and sample() the
 * core may still fill the want arrays: masks and stops that depend on the step before.
 * Steps run in the order in which they were enqueued. Enqueuing never waits and never fails: errors
 * are sticky and come out of done().
 *
 * What does not change while a sequence runs (its sampling, its KV blocks) stands once per sequence
 * slot in `struct slots`, and what follows from other numbers (the position of a row) stands
 * nowhere: a decode row is five integers, so a step of a thousand sequences is cheap to plan.
 *
 * One thread uses a device. `sim` implements this directly; the CPU and GPU backends share one
 * forward pass (kernels/model/forward.h) over a table of operations (kernels/ops.h).
 */
#ifndef MSERVE_KERNELS_DEVICE_H
#define MSERVE_KERNELS_DEVICE_H

#include "config/errors.h"
#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

struct model; /* kernels/model/model.h */

enum { DEVICE_STEPS = 2, DEVICE_BLOCK_TOKENS = 32 };

struct device_limits {
    uint32_t rows_max;      /* rows of a step */
    uint32_t sequences_max; /* slots: 0..sequences_max - 1 */
    uint32_t blocks;        /* KV blocks of DEVICE_BLOCK_TOKENS tokens each */
    uint32_t context_max;   /* tokens of one sequence, so ceil(context / 32) block-table entries */
    uint32_t threads;
    enum engine_kv kv; /* of engine_options, as is: */
    enum engine_weights weights;
    const char *gpu;
};

/*
 * What stays with a sequence slot while one sequence runs in it. The device allocates it, the core
 * fills it. While a step in flight names a slot, the core changes nothing there, except that it
 * appends block entries which that step does not use.
 */
struct slots {
    struct engine_sampling *sampling; /* [sequences_max] */
    uint8_t *pool;     /* [sequences_max] 1: an embedding. Each row's final hidden state is added to
                       * the slot's pool, which starts from zero at position 0 */
    uint8_t *logprobs; /* [sequences_max] 1: of its tokens the log-probabilities are wanted too */
    uint32_t *blocks;  /* [sequences_max][blocks_stride] KV block ids; entry i of a slot holds its
                        * positions 32 i .. 32 i + 31. Slots whose sequences begin alike may name
                        * the same blocks there */
    uint32_t blocks_stride; /* ceil(context_max / 32) */
};

/*
 * One step, S sequences with R rows (tokens) together, W of them wanted. Arrays have room for
 * sequences_max and rows_max. Rows of a sequence stand side by side, in order of position;
 * sequences are in the order of seq_row; each slot is named once at most. The device only reads the
 * arrays, and they keep their contents until the step slot's next begin() and beyond: the core
 * writes only what differs.
 *
 * Row r of sequence s has position seq_ctx[s] + r - seq_row[s]; its KV goes to that position's
 * block, and it attends to positions 0 .. its own.
 *
 * SHARED BLOCKS Each position of a block is written by one sequence, once, and read by any number.
 * What a sequence reads below seq_ctx may be written in this very step, by a sequence that stands
 * before it: so K and V of all rows of a layer are written before any row attends.
 */
struct step {
    uint32_t sequences; /* S */
    uint32_t rows;      /* R */
    uint32_t wanted;    /* W */
    uint32_t decodes; /* the first sequences: one row each (so row i is sequence i's), of the token
                         * sampled last, with tokens before it, and wanted (so want i is it) */

    /* [S] */
    uint32_t *seq_slot; /* names its row in struct slots, its last token and its pool */
    uint32_t *seq_row;  /* first row */
    uint32_t *seq_rows; /* number of rows, >= 1 */
    uint32_t *seq_ctx;  /* tokens already in the KV cache, or put there by sequences before it */

    /* [R] */
    int32_t *token; /* id, or -1: the token sampled last for this sequence's slot */

    /* [W]; filled before sample(). Wanted of a pooling slot is its embedding (mean of the pool, L2
     * norm 1), of any other a token, whose position (Philox counter) is the row's + 1. */
    uint32_t *want_row; /* ascending */
    uint32_t *want_seq; /* index into seq_* */
};

/* What a step's time went into. */
enum part { PART_FIXED, PART_LINEAR, PART_ATTENTION, PART_HEAD, PART_COUNT };

struct step_result {
    const uint32_t *token;  /* [W], 0 for pooled rows */
    const float *embedding; /* [W][embedding_len], rows of pooled ones are filled */
    const float *logprob;   /* [W], of slots that want it: natural logarithm of the softmax of the
                             * logits as they are (no temperature, no filter), at the token */
    const uint8_t *bad;     /* [W] 1: NaN or infinity among the logits; token is meaningless */
    uint64_t begin_ns;      /* device clock; begin of a step >= end of the step before */
    uint64_t end_ns;
    /* end - begin by enum part, sum exactly end - begin. Where only the whole is measured, by the
     * shares of a calibration (cost_parts() in kernels/core/cost.h). */
    uint64_t part_ns[PART_COUNT];
};

struct device;

struct device_ops {
    const char *name; /* "ref", "cpu", "sim" */
    bool needs_model; /* false: it is its own, with the byte tokenizer */

    /*
     * Whether this machine has such a device and all that it needs; *ret_why says in words what is
     * missing, for as long as the process lives. NULL: it always has.
     */
    bool (*usable)(const char **ret_why);
    const char *otherwise; /* the device that runs in its place then; NULL: opening is refused */

    /* Bytes that a KV pool of no stated size may take at most. NULL: 1 GiB. */
    enum err (*kv_room)(const struct model *model, const struct device_limits *limits,
                        uint64_t *ret);

    /* Bytes for weights, KV and activations under these limits. */
    enum err (*plan)(const struct model *model, const struct device_limits *limits,
                     struct engine_plan *ret);
    /* `model` is borrowed until close (NULL where none is needed). */
    enum err (*open)(const struct model *model, const struct engine_options *options,
                     const struct device_limits *limits, struct device **ret);
    void (*close)(struct device *device);

    struct slots *(*slots)(struct device *device);
    struct step *(*begin)(struct device *device, unsigned slot);
    void (*forward)(struct device *device, unsigned slot);
    void (*sample)(struct device *device, unsigned slot);
    /* ERR_AGAIN after timeout_ms (0: look only; -1: wait). Lasts until begin() of the slot. */
    enum err (*done)(struct device *device, unsigned slot, int timeout_ms, struct step_result *ret);

    /* NULL: what the clock said before the device was opened. */
    uint64_t (*clock_ns)(const struct device *device);
    /* "ref/scalar/f32/1": goes into the numerics id */
    const char *(*numerics)(const struct device *device);
};

/* What each implementation starts with. */
struct device {
    const struct device_ops *ops;
    /* How long a KV token takes that a row of a decode touches, and one that a row of a chunk does, in
     * proportion: by this PART_ATTENTION is split. Set when it is opened; both 0: equally long. */
    uint16_t decode_weight, chunk_weight;
};

/* The implementations this build knows, NULL-terminated. */
extern const struct device_ops *const device_table[];

#endif
