/*
 * launch.h: the kernels, each by one function that enqueues it, and what it is given. One source a
 * kernel (*.cu), compiled twice: by nvcc, and by the C++ compiler for the emulation (simt.h).
 *
 * All pointers are device memory. Rows of an activation stand side by side without gaps. E, H, G,
 * D, F, V are the numbers of struct model_hyper; bf16 and fp8 (e4m3) are uint16_t and uint8_t here.
 *
 * NUMBERS A row's result is a function of that row alone, to the last bit: one block (or one warp)
 * does a row, with a number of threads that does not depend on how many rows there are, and adds up
 * in one order. No floating-point atomics. Numbers are rounded to nearest, ties to even.
 *
 * PADDING Rows from *len up to `most` are never written, and what they hold is never looked at.
 */
#ifndef MSERVE_KERNELS_CUDA_LAUNCH_H
#define MSERVE_KERNELS_CUDA_LAUNCH_H

#include "kernels/cuda/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * How many rows there are: *len, in device memory, so that a graph is good for any number up to
 * `most`, which sizes the grid. Kernels loop: for (row = blockIdx.x; row < *len; row += gridDim.x).
 */
struct extent {
    uint32_t most;
    const uint32_t *len;
};

enum number { NUMBER_F32, NUMBER_BF16, NUMBER_FP8, NUMBER_INT8, NUMBER_INT32, NUMBER_COUNT };

/*
 * Rows as a product takes them. bf16: `value` alone. fp8 and int8: a row's numbers are value times
 * scale[row], with scale = the row's largest magnitude / 448, or / 127 (1 for a row of zeros).
 */
struct prepared {
    enum number type;
    void *value;
    float *scale; /* [rows] */
};

/* One layer's keys and values, each [blocks][G][32][D]: bf16, or fp8 without a scale. */
struct kv_layer {
    enum number type;
    void *k, *v;
};

/* angle[row][i] = cosine, sine of position[row] * frequency[i], as maths_sincos() has them. */
struct angles_args {
    struct extent rows;
    const uint32_t *position;
    const double *frequency; /* [pairs] radians per position */
    uint32_t pairs;          /* rope_dim / 2 */
    float *angle;            /* [rows][pairs][2] */
};

/* stream[row] = table[token[row]]; -1 is the token sampled last for the row's slot. */
struct embed_args {
    struct extent rows;
    const int32_t *token;
    const uint32_t *slot;  /* [rows] */
    const uint32_t *last;  /* [slots] */
    const uint16_t *table; /* bf16 [V][E] */
    uint32_t width;        /* E */
    float *stream;         /* [rows][E] */
};

/* stream += delta, unless that is NULL; out = gain * stream / sqrt(mean(stream^2) + eps),
 * prepared. */
struct norm_args {
    struct extent rows;
    float *stream;         /* [rows][E] */
    const uint16_t *delta; /* bf16 [rows][E], or NULL */
    const float *gain;     /* [E] */
    uint32_t width;
    float eps;
    struct prepared out;
};

/* The same preparation of rows that are bf16 already; out.type is fp8 or int8. */
struct quantise_args {
    struct extent rows;
    const uint16_t *in; /* bf16 [rows][width] */
    uint32_t width;
    struct prepared out;
};

/* out = in * row_scale[row] * column_scale[column]: what a product of int8 stands for. */
struct rescale_args {
    struct extent rows;
    const int32_t *in; /* [rows][width] */
    const float *row_scale, *column_scale;
    uint32_t width;
    uint16_t *out; /* bf16 [rows][width] */
};

/*
 * Of each row of qkv: bias is added; each query and key head is normed (RMS over its D numbers,
 * times gain); the first rope_dim dimensions of each are rotated, pairs being neighbours (2i, 2i +
 * 1); queries are written back, keys and values go to their place in the cache. NULL: no such
 * thing.
 */
struct rotate_args {
    struct extent rows;
    uint16_t *qkv; /* bf16 [rows][(H + 2G) D] */
    uint32_t heads, kv_heads, head_dim, rope_dim;
    const float *angle;           /* of angles */
    const float *bias;            /* [(H + 2G) D] or NULL */
    const float *q_gain, *k_gain; /* [D] or NULL */
    float eps;
    const uint32_t *place; /* [rows] block * 32 + position % 32 */
    struct kv_layer kv;
};

/*
 * HEADS = softmax(Q K^T / sqrt(D)) V over the positions up to the row's own, in splits of
 * ATTEND_SPLIT positions from position 0 that are folded from left to right. `plan` is the device's
 * copy of what attend_plan() wrote (attend_plan.h), `kinds` what it returned in ret_kinds.
 */
struct attend_args {
    const void *plan;
    uint32_t kinds;
    const uint16_t *qkv; /* as rotate left it */
    struct kv_layer kv;
    uint32_t heads, kv_heads, head_dim;
    uint16_t *out;       /* bf16 [rows][H D] */
    float *part;         /* attend_part_bytes() of them */
    uint32_t processors; /* of struct gpu_about: sizes the grids */
};

enum glu_kind { GLU_SILU, GLU_GELU }; /* gelu: the tanh form */

/* out[i] = act(pair[i]) * pair[width + i], prepared. */
struct glu_args {
    struct extent rows;
    const uint16_t *pair; /* bf16 [rows][2 F] */
    uint32_t width;       /* F */
    enum glu_kind kind;
    struct prepared out;
};

/* out[i] = in[row[i]]. */
struct gather_args {
    struct extent rows; /* of out */
    const uint32_t *row;
    const uint16_t *in; /* bf16 [..][width] */
    uint32_t width;
    uint16_t *out;
};

/* One sequence whose final states are wanted: its rows are added to its pool in order. */
struct pool_item {
    uint32_t row, rows;
    uint32_t slot;
    uint32_t first; /* 1: the pool starts from zero */
};

struct pool_args {
    struct extent items;
    const struct pool_item *item;
    const uint16_t *in; /* bf16 [rows][width] */
    uint32_t width;
    double *pool; /* [slots][width] */
};

/* out[want] = the slot's pool scaled to length 1; bad[want] = 1 and zeros where it has none. */
struct embedding_item {
    uint32_t slot, want;
};

struct embedding_args {
    struct extent items;
    const struct embedding_item *item;
    const double *pool; /* [slots][width] */
    uint32_t width;
    float *out;    /* [wanted][width] */
    uint32_t *bad; /* [wanted] */
};

enum { SAMPLE_LOGPROB = 1 << 0, SAMPLE_NO_MASK = UINT32_MAX };

/* How one row of logits becomes a token; as struct engine_sampling has it, but for penalties. */
struct sample_row {
    uint64_t seed;
    float temperature, top_p, min_p;
    uint32_t top_k;
    uint32_t position, choice; /* the Philox counter */
    uint32_t slot;             /* whose last token it becomes */
    uint32_t want;             /* where the results go */
    uint32_t flags;
    uint32_t mask; /* index of a mask of allowed tokens, or SAMPLE_NO_MASK */
    float presence, frequency, repetition; /* penalties: 0, 0, 1 are none; need `seen` */
};

/*
 * In this order: repetition (logits of tokens seen are divided by it where positive, else
 * multiplied), frequency times how often and presence where at all (subtracted), mask; then as in
 * kernels/sample.h: temperature 0 takes the highest, ties to the lowest id; else weights, min_p,
 * top_k, top_p, one uniform number, which picks along the ids. Penalties that leave the range of
 * float stay at its end. The log-probability is that of the logits as the model gave them; it is
 * written where a row asks.
 *
 * bad: NaN or infinity among the logits, hidden by a mask or not, or a mask that allows nothing;
 * then token, last and log-probability are 0. V is at most 2^20, which is what a tokenizer can have.
 */
struct sample_args {
    struct extent rows;
    const struct sample_row *row; /* [rows] */
    const float *logits;          /* [rows][V] */
    uint32_t vocab;
    const uint32_t
        *mask; /* [masks][ceil(V / 32)] bit i of word i / 32: token i may be taken; or NULL */
    const uint16_t *seen; /* [slots][V] how often each token was generated so far; or NULL */
    uint32_t *last;       /* [slots] */
    uint32_t *token;      /* [wanted] */
    float *logprob;       /* [wanted] */
    uint32_t *bad;        /* [wanted] 1: as said above; else 0 */
};

/* out = a b^T, each output added up over K in one order whatever the shape. */
struct product_args {
    uint32_t rows;            /* M: any, rows past it are not read */
    uint32_t outputs, inputs; /* N, K; K is a multiple of 8 */
    const uint16_t *a;        /* bf16 [M][K] */
    const uint16_t *b;        /* bf16 [N][K] */
    enum number type;         /* of out: NUMBER_BF16 or NUMBER_F32 */
    void *out;                /* [M][N] */
};

/*
 * differs[i][s] = whether row got[i] has any bit that row want[row[i]] has not, in its s-th
 * SAME_SEGMENT bytes; SAME_ANY: it may be anything. The tuner's question (matmul.h).
 */
enum { SAME_SEGMENT = 4096 };
#define SAME_ANY UINT32_MAX

struct same_args {
    uint32_t rows;
    size_t row_bytes;    /* even */
    const uint16_t *got; /* [rows][row_bytes / 2] */
    const uint16_t *want;
    const uint32_t *row; /* [rows] */
    uint32_t *differs;   /* [rows][ceil(row_bytes / SAME_SEGMENT)] 1 or 0 */
};

/*
 * Every word of simt.cuh, on numbers that a test chooses, so that what a card makes of them can be
 * held against plain arithmetic before any other kernel is believed. words.cu says what is where in
 * `out`.
 */
enum { WORDS_THREADS = 64, WORDS_IN = 8, WORDS_OUT = 64 };

struct words_args {
    uint32_t rounds;    /* a block each */
    const uint32_t *in; /* [rounds][WORDS_THREADS][WORDS_IN] */
    uint32_t *out;      /* [rounds][WORDS_THREADS][WORDS_OUT] */
};

/* Each only enqueues. What it was given is copied. */
struct gpu_kernels {
    void (*angles)(struct gpu *gpu, const struct angles_args *args);
    void (*embed)(struct gpu *gpu, const struct embed_args *args);
    void (*norm)(struct gpu *gpu, const struct norm_args *args);
    void (*quantise)(struct gpu *gpu, const struct quantise_args *args);
    void (*rescale)(struct gpu *gpu, const struct rescale_args *args);
    void (*rotate)(struct gpu *gpu, const struct rotate_args *args);
    void (*attend)(struct gpu *gpu, const struct attend_args *args);
    void (*glu)(struct gpu *gpu, const struct glu_args *args);
    void (*gather)(struct gpu *gpu, const struct gather_args *args);
    void (*pool)(struct gpu *gpu, const struct pool_args *args);
    void (*embedding)(struct gpu *gpu, const struct embedding_args *args);
    void (*sample)(struct gpu *gpu, const struct sample_args *args);
    void (*product)(struct gpu *gpu, const struct product_args *args);
    void (*same)(struct gpu *gpu, const struct same_args *args);
    void (*words)(struct gpu *gpu, const struct words_args *args);
};

#ifdef __cplusplus
}
#endif

#endif
