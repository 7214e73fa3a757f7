/*
 * ref.h: the inside of the reference backend: ref.c (weights and tables), layers.c, linear.c and
 * attention.c (the arithmetic). What carries it is kernels/host.
 *
 * All numbers are floats; sums for norms and means are doubles. The arithmetic uses additions,
 * multiplications, divisions and square roots alone, each rounded by itself (-ffp-contract=off), so
 * it gives the same bits on every machine, for any number of threads, rows or vector lanes.
 */
#ifndef MSERVE_KERNELS_REF_REF_H
#define MSERVE_KERNELS_REF_REF_H

#include "kernels/host/host.h"

enum { BLOCK = HOST_BLOCK, LANES = 16 };

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
};

struct ref {
    struct backend host;
    bool half;     /* K, V and what meets them are rounded to half precision */
    float *k;      /* [layers][blocks][G][D][BLOCK] */
    float *v;      /* [layers][blocks][G][BLOCK][D] */
    float **score; /* [threads][context_max] */
};

static inline struct ref *ref_of(struct backend *backend)
{
    return (struct ref *)(void *)backend;
}

/* layers.c */
void ref_embed(struct backend *backend, const struct step *step, const struct weight *table);
void ref_norm(struct backend *backend, uint32_t rows, const struct weight *gain, bool first);
void ref_qkv_post(struct backend *backend, const struct step *step, uint32_t layer);
void ref_glu(struct backend *backend, uint32_t rows);

/* linear.c */
void ref_linear(struct backend *backend, const struct weight *weight, enum act in, enum act out,
                uint32_t rows);

/* attention.c */
void ref_attn(struct backend *backend, const struct step *step, uint32_t layer);

/* Where head group `group` of the block with this position of a slot begins, in k or v. */
static inline size_t kv_at(const struct ref *ref, uint32_t layer, uint32_t slot, uint32_t position,
                           uint32_t group)
{
    const struct backend *backend = &ref->host;
    const struct model_hyper *h = &backend->hyper;
    uint32_t block =
        backend->slots.blocks[(size_t)slot * backend->slots.blocks_stride + position / BLOCK];

    return (((size_t)layer * backend->limits.blocks + block) * h->kv_heads + group) * h->head_dim *
           BLOCK;
}

#endif
