/*
 * cpu.h: the inside of the `cpu` backend: cpu.c (tables), weights.c (packed matrices, and what they
 * take), layers.c (operations over rows), context.c (KV cache and attention). The arithmetic itself is
 * in matrix.h and loops.h, once for each instruction set; what carries it is kernels/host.
 */
#ifndef MSERVE_KERNELS_CPU_CPU_H
#define MSERVE_KERNELS_CPU_CPU_H

#include "kernels/cpu/loops.h"
#include "kernels/cpu/matrix.h"
#include "kernels/host/host.h"

/* A vector has `gain` alone; a matrix is packed where it is multiplied with. */
struct weight {
    struct matrix matrix;
    const struct gguf_tensor *table; /* the file's first tensor: rows are looked up there */
    const float *gain;
};

/* Rows of one sequence that stand side by side in the step; attention does them together. */
struct span {
    uint32_t row; /* in the step */
    uint32_t rows;
};

struct cpu {
    struct backend host;
    enum isa isa;
    const struct loops *loops;
    bool half;               /* K and V are stored as halves */
    uint8_t *kv;             /* [blocks][layers][G] of K [D][32], V [32][padded D] */
    size_t k_bytes, v_bytes; /* of K and V of one key head */
    size_t block_bytes;
    struct span *span; /* [rows_max] of the step */
    uint32_t spans;
    uint8_t *input;  /* prepared rows of the matrix that is multiplied with */
    float **scratch; /* [threads] of attention */
    char numerics[96];
};

static inline struct cpu *cpu_of(struct backend *backend)
{
    return (struct cpu *)(void *)backend;
}

/* What the matrices of a model take. */
struct weights_plan {
    uint64_t bytes;       /* packed matrices and vectors */
    uint64_t input_bytes; /* prepared rows, of the matrix that needs most */
};

/* weights.c */
void weights_plan(enum isa isa, const struct model *model, const struct device_limits *limits,
                  struct weights_plan *ret);
enum err cpu_weight(struct backend *backend, const struct gguf_tensor *const *tensors, uint32_t len,
                    unsigned uses, const struct weight **ret);
void weights_numerics(enum isa isa, const struct model *model, bool half, char *ret, size_t size);

/* layers.c */
void cpu_embed(struct backend *backend, const struct step *step, const struct weight *table);
void cpu_norm(struct backend *backend, uint32_t rows, const struct weight *gain, bool first);
void cpu_linear(struct backend *backend, const struct weight *weight, enum act in, enum act out,
                uint32_t rows);
void cpu_glu(struct backend *backend, uint32_t rows);

/* context.c */
void context_plan(const struct model_hyper *hyper, const struct device_limits *limits,
                  uint64_t *ret_kv_bytes, uint64_t *ret_scratch_bytes);
enum err context_open(struct cpu *cpu);
void cpu_qkv_post(struct backend *backend, const struct step *step, uint32_t layer);
void cpu_attn(struct backend *backend, const struct step *step, uint32_t layer);

#endif
