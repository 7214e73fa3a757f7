/*
 * product_float.c: F32, F16 and BF16 by fused multiply-add in single precision, one input after
 * another; a product is not rounded before it is added. Widening a weight is exact. Compiled once for
 * AVX2 and once for AVX-512.
 *
 * TILE of two vectors of outputs: [K][LANES] in the format of the file. ROW: [K] floats.
 *
 * A few rows go through all inputs with their sums in registers, weights widened on the way. More
 * rows share chunks of weights, widened once into the first cache, with their sums beside them.
 */
#include "kernels/cpu/plain.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/model/tensor.h"

#ifdef __AVX512F__
#define ISA            avx512
#define PRODUCT_ISA    ISA_AVX512
#define VEC(operation) _mm512_##operation
typedef __m512 vector;
enum { WIDTH = 16, ROWS = 12, CHUNK = 128 };
#else
#define ISA            avx2
#define PRODUCT_ISA    ISA_AVX2
#define VEC(operation) _mm256_##operation
typedef __m256 vector;
enum { WIDTH = 8, ROWS = 6, CHUNK = 256 };
#endif

enum {
    LANES = 2 * WIDTH,
    PANEL_ROWS = 120,
    /* Fewer rows are bound by memory alone, and there the hardware fetches best. */
    FETCH_ROWS = 3,
    FETCH_BYTES = 4096,
};

static size_t tile_bytes4(uint32_t inputs)
{
    return plain_tile_bytes(inputs, LANES, 4);
}

static size_t tile_bytes2(uint32_t inputs)
{
    return plain_tile_bytes(inputs, LANES, 2);
}

static void pack4(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    plain_pack(row, inputs, lane, tile, LANES, 4);
}

static void pack2(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    plain_pack(row, inputs, lane, tile, LANES, 2);
}

/* One vector of weights as floats. */
typedef vector load_fn(const uint8_t *at);

static inline vector load_f32(const uint8_t *at)
{
    return VEC(load_ps)((const float *)(const void *)at);
}

#ifdef __AVX512F__
static inline vector load_f16(const uint8_t *at)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)at));
}

static inline vector load_bf16(const uint8_t *at)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256((const void *)at));

    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
#else
static inline vector load_f16(const uint8_t *at)
{
    return _mm256_cvtph_ps(_mm_load_si128((const void *)at));
}

static inline vector load_bf16(const uint8_t *at)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_load_si128((const void *)at));

    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
#endif

/* Weights of `len` inputs, and what is fetched for later while they are used. */
struct run {
    const uint8_t *weights;
    uint32_t len;
    const uint8_t *ahead; /* `step` bytes for each input */
    size_t step;
};

/*
 * out[m][lane] = weights times `rows` rows at `input`, added to what is there if `resume`; `stride` is
 * in floats. Constants are `rows`, `size` (bytes of a weight), `load`, and `resume`.
 */
static inline __attribute__((always_inline)) void
add_rows(const struct run *run, const uint8_t *input, size_t row_bytes, float *out, size_t stride,
         const uint32_t rows, const uint32_t size, load_fn *load, const bool resume)
{
    const uint8_t *w = run->weights, *ahead = run->ahead;
    const uint8_t *a[ROWS / 3];
    vector sum[ROWS][2];

    UNROLL
    for (uint32_t m = 0; m < rows; m++) {
        sum[m][0] = resume ? VEC(loadu_ps)(out + m * stride) : VEC(setzero_ps)();
        sum[m][1] = resume ? VEC(loadu_ps)(out + m * stride + WIDTH) : VEC(setzero_ps)();
    }
    UNROLL
    for (uint32_t i = 0; i < (rows + 2) / 3; i++)
        a[i] = input + 3 * i * row_bytes;
#pragma GCC unroll 4
    for (uint32_t k = 0; k < run->len; k++) {
        vector w0 = load(w), w1 = load(w + WIDTH * size);

        if (resume || rows >= FETCH_ROWS)
            _mm_prefetch(ahead, _MM_HINT_T0);
        ahead += run->step;
        w += LANES * size;
        UNROLL
        for (uint32_t m = 0; m < rows; m++) {
            vector x = VEC(set1_ps)(*(const float *)(const void *)(a[m / 3] + m % 3 * row_bytes));

            sum[m][0] = VEC(fmadd_ps)(w0, x, sum[m][0]);
            sum[m][1] = VEC(fmadd_ps)(w1, x, sum[m][1]);
        }
        UNROLL
        for (uint32_t i = 0; i < (rows + 2) / 3; i++)
            a[i] += sizeof(float);
    }
    UNROLL
    for (uint32_t m = 0; m < rows; m++) {
        VEC(storeu_ps)(out + m * stride, sum[m][0]);
        VEC(storeu_ps)(out + m * stride + WIDTH, sum[m][1]);
    }
}

/* A switch over the constants that add_rows() wants. */
#if defined(__AVX512F__)
#define MORE_CASES CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#else
#define MORE_CASES
#endif
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) MORE_CASES

static inline __attribute__((always_inline)) void multiply_few(const struct panel *panel,
                                                               const uint32_t size, load_fn *load)
{
    const struct run run = {panel->weights, panel->inputs, panel->weights + FETCH_BYTES,
                            LANES * size};

    switch (panel->rows) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        add_rows(&run, panel->input, panel->row_bytes, panel->out, panel->stride, n, size, load,   \
                 false);                                                                           \
        break;
        CASES
#undef CASE
    }
}

/* Rows of floats times a chunk of weights, as evenly grouped as they go. */
static void add_chunk(struct run *run, const uint8_t *input, size_t row_bytes, uint32_t rows,
                      float *sum)
{
    for (uint32_t groups = (rows + ROWS - 1) / ROWS; groups > 0; groups--) {
        uint32_t some = (rows + groups - 1) / groups;

        switch (some) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        add_rows(run, input, row_bytes, sum, LANES, n, 4, load_f32, true);                         \
        break;
            CASES
#undef CASE
        }
        rows -= some;
        input += some * row_bytes;
        sum += some * LANES;
        run->ahead += run->len * run->step;
    }
}

static inline __attribute__((always_inline)) void
widen(const uint8_t *weights, uint32_t len, const uint32_t size, load_fn *load, float *ret)
{
    for (uint32_t i = 0; i < 2 * len; i++)
        VEC(store_ps)(ret + i * WIDTH, load(weights + i * WIDTH * size));
}

static inline __attribute__((always_inline)) void multiply_many(const struct panel *panel,
                                                                uint32_t first, uint32_t rows,
                                                                const uint32_t size, load_fn *load)
{
    __attribute__((aligned(64), uninitialized)) float w[CHUNK * LANES];
    __attribute__((aligned(64), uninitialized)) float sum[PANEL_ROWS * LANES];
    const uint8_t *input = panel->input + first * panel->row_bytes;

    memset(sum, 0, rows * LANES * sizeof(float));
    for (uint32_t k = 0; k < panel->inputs; k += CHUNK) {
        uint32_t len = panel->inputs - k < CHUNK ? panel->inputs - k : CHUNK;
        const uint8_t *weights = panel->weights + (size_t)k * LANES * size;
        struct run run = {
            .weights = size == 4 ? weights : (const uint8_t *)w,
            .len = len,
            .ahead = weights + (size_t)len * LANES * size,
            .step = LANES * size / ((rows + ROWS - 1) / ROWS) + 1,
        };

        if (size != 4)
            widen(weights, len, size, load, w);
        add_chunk(&run, input + k * sizeof(float), panel->row_bytes, rows, sum);
    }
    for (uint32_t m = 0; m < rows; m++)
        memcpy(panel->out + (first + m) * panel->stride, sum + m * LANES, LANES * sizeof(float));
}

static inline __attribute__((always_inline)) void multiply(const struct panel *panel,
                                                           const uint32_t size, load_fn *load)
{
    if (panel->rows <= ROWS)
        multiply_few(panel, size, load);
    else
        for (uint32_t m = 0; m < panel->rows; m += PANEL_ROWS)
            multiply_many(panel, m, panel->rows - m < PANEL_ROWS ? panel->rows - m : PANEL_ROWS,
                          size, load);
}

static void multiply_f32(const struct panel *panel)
{
    multiply(panel, 4, load_f32);
}

static void multiply_f16(const struct panel *panel)
{
    multiply(panel, 2, load_f16);
}

static void multiply_bf16(const struct panel *panel)
{
    multiply(panel, 2, load_bf16);
}

#define TEXT_(name)    #name
#define TEXT(name)     TEXT_(name)
#define JOIN_(isa, to) product_##isa##_##to
#define JOIN(isa, to)  JOIN_(isa, to)
#define PRODUCT(format, name, tensor_type, bytes)                                                  \
    const struct product JOIN(ISA, format) = {                                                     \
        .numerics = TEXT(ISA) "/" name,                                                            \
        .isa = PRODUCT_ISA,                                                                        \
        .type = tensor_type,                                                                       \
        .tile = LANES,                                                                             \
        .tile_bytes = tile_bytes##bytes,                                                           \
        .row_bytes = plain_row_bytes,                                                              \
        .pack = pack##bytes,                                                                       \
        .prepare = plain_prepare,                                                                  \
        .multiply = multiply_##format,                                                             \
    }

PRODUCT(f32, "f32-fma/1", TENSOR_F32, 4);
PRODUCT(f16, "f16-fma/1", TENSOR_F16, 2);
PRODUCT(bf16, "bf16-fma/1", TENSOR_BF16, 2);
