/*
 * tensor.h: the number formats of tensors in a file, one row each, and their values as float.
 */
#ifndef MSERVE_KERNELS_MODEL_TENSOR_H
#define MSERVE_KERNELS_MODEL_TENSOR_H

#include <stdint.h>

/* ggml's numbers for the formats that mserve reads. */
enum tensor_type { TENSOR_F32 = 0, TENSOR_F16 = 1, TENSOR_Q8_0 = 8, TENSOR_BF16 = 30 };

struct tensor_format {
    const char *name;
    uint32_t type;
    uint32_t block_len;   /* elements that are stored together; a row is whole blocks */
    uint32_t block_bytes; /* 0: known by name only, not supported */
    /* Writes the `len` elements (whole blocks) at `data`, which may be unaligned. */
    void (*to_f32)(const uint8_t *data, uint64_t len, float *ret);
};

/* NULL for a number that is no row. A row with block_bytes 0 is not supported. */
const struct tensor_format *tensor_format(uint32_t type);

/* IEEE 754 half precision to single, exact. */
float tensor_half(uint16_t bits);

#endif
