/*
 * q8_avx2.c: Q8_0 in 16 bits, for machines without VNNI: there, multiplying bytes needs so many
 * instructions that a product of sums is faster (Winograd 1968):
 *
 *     a0 w0 + a1 w1 = (a0 + w1)(a1 + w0) - a0 a1 - w0 w1
 *
 * Two additions, one VPMADDWD and one addition are 32 multiply-adds; the sums of a0 a1 and w0 w1 are
 * taken off where the sum starts. 32 bits may wrap on the way: the result fits, |sum a w| < 2^31.
 *
 * Inputs go in chunks of 256. A row of operands has 12 bits and a sign for each chunk's largest. The
 * blocks of a row of weights have the row's largest scale in the chunk in common: q becomes round(q F
 * / 128), |F| <= 2048, which is exact for blocks of that scale and costs 1/16 of a step of the largest
 * at most. Where a block's scale is below 1/16 of its chunk's largest, the chunk of 16 outputs is
 * WIDE: multiplied in single precision, slowly, with the weights as they are. Either way a chunk's
 * sum is multiplied by both scales and added in single precision.
 *
 * TILE of 16 outputs, 8.75 bits a weight, of chunks:
 *     float s[16]           scale of the 16-bit weights; NaN where a block's is not finite
 *     int32 start[16]       minus the sum of w0 w1
 *     int16 f[8][16]        F; in a wide chunk the scales as halves
 *     int8 q[K / 4][2][32]  for 8 outputs: 4 x (w1, w3), 4 x (w0, w2), and again
 * `wide` is start[0] == INT32_MIN, which no sum is.
 * ROW, 16 bits an input, of chunks: int16 (a0, a2, a1, a3)[64]; int32 minus sum of a0 a1; float scale
 */
#include "kernels/cpu/product.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernels/model/tensor.h"

enum {
    LANES = 16,
    BLOCK = 32,
    CHUNK = 256,
    CHUNK_BLOCKS = CHUNK / BLOCK,
    ROWS = 4,
    PANEL_ROWS = 128,
    OPERAND_MOST = 4095,
    FACTOR_MOST = 2048,
    QUAD_BYTES = 64,  /* four inputs of a tile, as bytes */
    QUAD_WORDS = 64,  /* and in 16 bits */
    WIDE = INT32_MIN, /* in start[0] */
};

/* A block's scale may be this part of its chunk's largest. */
static const float narrow = 1.0f / 16.0f;

struct tile_chunk {
    float s[LANES];
    int32_t start[LANES];
    uint16_t f[CHUNK_BLOCKS][LANES];
    int8_t q[][2][32];
};

struct row_chunk {
    int16_t a[CHUNK];
    int32_t start;
    float s;
};

static size_t chunk_bytes(uint32_t len)
{
    return sizeof(struct tile_chunk) + len / 4 * QUAD_BYTES;
}

static size_t tile_bytes(uint32_t inputs)
{
    return inputs / CHUNK * chunk_bytes(CHUNK) +
           (inputs % CHUNK != 0 ? chunk_bytes(inputs % CHUNK) : 0);
}

static size_t row_bytes(uint32_t inputs)
{
    return product_row_bytes((inputs + CHUNK - 1) / CHUNK * sizeof(struct row_chunk));
}

static uint32_t chunk_len(uint32_t inputs, uint32_t k)
{
    return inputs - k < CHUNK ? inputs - k : CHUNK;
}

/* Where weight k of a chunk stands for a lane. */
static int8_t *place(struct tile_chunk *chunk, uint32_t k, uint32_t lane)
{
    return &chunk->q[k / 4][lane / 8]
                    [lane % 8 / 4 * 16 + (k % 2 == 0 ? 8 : 0) + lane % 4 * 2 + k % 4 / 2];
}

/* Scales stay halves until the tile is whole. */
static void pack(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    for (uint32_t k = 0; k < inputs; k += CHUNK) {
        struct tile_chunk *chunk = (struct tile_chunk *)(void *)tile;
        uint32_t len = chunk_len(inputs, k);

        for (uint32_t b = 0; b < len / BLOCK; b++, row += 34) {
            memcpy(&chunk->f[b][lane], row, 2);
            for (uint32_t i = 0; i < BLOCK; i++)
                *place(chunk, b * BLOCK + i, lane) = (int8_t)row[2 + i];
        }
        tile += chunk_bytes(len);
    }
}

/* The largest scale of a lane, and whether a block of it is too small beside that one. */
static float largest_scale(const struct tile_chunk *chunk, uint32_t blocks, uint32_t lane, int *ret)
{
    float most = 0.0f;

    for (uint32_t b = 0; b < blocks; b++) {
        float d = fabsf(tensor_half(chunk->f[b][lane]));

        most = d > most || isnan(d) ? d : most;
    }
    for (uint32_t b = 0; b < blocks; b++) {
        float d = fabsf(tensor_half(chunk->f[b][lane]));

        *ret |= d > 0.0f && d < most * narrow;
    }
    return most;
}

/* Scales become factors of the largest one, and the sum of w0 w1 is known. */
static void seal_lane(struct tile_chunk *chunk, uint32_t blocks, uint32_t lane, float most)
{
    uint32_t sum = 0;

    chunk->s[lane] = isfinite(most) ? most / (FACTOR_MOST / 128) : NAN;
    for (uint32_t b = 0; b < blocks; b++) {
        float d = tensor_half(chunk->f[b][lane]);
        int factor = most > 0.0f && isfinite(most) ? (int)lrintf(d / most * FACTOR_MOST) : 0;

        chunk->f[b][lane] = (uint16_t)factor;
        for (uint32_t k = b * BLOCK; k < (b + 1) * BLOCK; k += 2) {
            int w0 = (*place(chunk, k, lane) * 256 * factor + (1 << 14)) >> 15;
            int w1 = (*place(chunk, k + 1, lane) * 256 * factor + (1 << 14)) >> 15;

            sum += (uint32_t)(w0 * w1);
        }
    }
    chunk->start[lane] = (int32_t)-sum;
}

static void seal(uint32_t inputs, uint8_t *tile)
{
    for (uint32_t k = 0; k < inputs; k += CHUNK) {
        struct tile_chunk *chunk = (struct tile_chunk *)(void *)tile;
        uint32_t len = chunk_len(inputs, k);
        float most[LANES];
        int wide = 0;

        for (uint32_t lane = 0; lane < LANES; lane++)
            most[lane] = largest_scale(chunk, len / BLOCK, lane, &wide);
        for (uint32_t lane = 0; lane < LANES && !wide; lane++)
            seal_lane(chunk, len / BLOCK, lane, most[lane]);
        if (wide)
            chunk->start[0] = WIDE;
        tile += chunk_bytes(len);
    }
}

/* The largest |x| of a chunk, or NaN where one is not finite. */
static float largest(const float *in, uint32_t len)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), most = _mm256_set1_ps(3.40282347e38f);
    __m256 found = _mm256_setzero_ps(), finite = _mm256_cmp_ps(found, found, _CMP_EQ_OQ);
    __m128 half;

    for (uint32_t k = 0; k < len; k += 8) {
        __m256 size = _mm256_andnot_ps(sign, _mm256_loadu_ps(in + k));

        finite = _mm256_and_ps(finite, _mm256_cmp_ps(size, most, _CMP_LE_OQ));
        found = _mm256_max_ps(found, size);
    }
    if (_mm256_movemask_ps(finite) != 0xff)
        return NAN;
    half = _mm_max_ps(_mm256_castps256_ps128(found), _mm256_extractf128_ps(found, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

static void prepare_chunk(const float *in, uint32_t len, struct row_chunk *chunk)
{
    const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0,
                                           1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    float most = largest(in, len), factor = (float)OPERAND_MOST / most;
    __m256i twice = _mm256_setzero_si256();
    __m128i half;

    chunk->s = most / (float)OPERAND_MOST;
    if (!(factor <= 3.40282347e38f)) { /* 0, too small, or not finite: then the scale is NaN */
        factor = 0.0f;
        chunk->s = isnan(most) ? NAN : 0.0f;
    }
    if (isnan(most)) {
        memset(chunk->a, 0, sizeof(chunk->a));
        chunk->start = 0;
        return;
    }
    for (uint32_t k = 0; k < len; k += 16) {
        __m256 x0 = _mm256_mul_ps(_mm256_loadu_ps(in + k), _mm256_set1_ps(factor));
        __m256 x1 = _mm256_mul_ps(_mm256_loadu_ps(in + k + 8), _mm256_set1_ps(factor));
        __m256i a = _mm256_packs_epi32(_mm256_cvtps_epi32(x0), _mm256_cvtps_epi32(x1));

        a = _mm256_shuffle_epi8(_mm256_permute4x64_epi64(a, 0xd8), order);
        _mm256_storeu_si256((__m256i *)(void *)(chunk->a + k), a);
        /* Each product twice: (a0, a2) times (a1, a3), and the other way round. */
        twice = _mm256_add_epi32(twice, _mm256_madd_epi16(a, _mm256_shuffle_epi32(a, 0xb1)));
    }
    half = _mm_add_epi32(_mm256_castsi256_si128(twice), _mm256_extracti128_si256(twice, 1));
    half = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
    chunk->start = -_mm_cvtsi128_si32(half);
}

static void prepare(const float *in, uint32_t inputs, uint8_t *row)
{
    struct row_chunk *chunk = (struct row_chunk *)(void *)row;

    for (uint32_t k = 0; k < inputs; k += CHUNK)
        prepare_chunk(in + k, chunk_len(inputs, k), chunk++);
}

/* Eight factors, each twice. */
static inline __m256i factors(const uint16_t *f)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_load_si128((const void *)f));

    return _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16));
}

/* 16-bit weights of a chunk: for each quad and 8 outputs (w1, w3)[8], (w0, w2)[8]. */
static void expand(const struct tile_chunk *chunk, uint32_t len, int16_t *ret)
{
    const __m256i zero = _mm256_setzero_si256();

    for (uint32_t b = 0; b < len / BLOCK; b++) {
        __m256i f[2] = {factors(chunk->f[b]), factors(chunk->f[b] + 8)};

        for (uint32_t i = b * 8; i < b * 8 + 8; i++)
            for (int g = 0; g < 2; g++, ret += 32) {
                __m256i q = _mm256_load_si256((const void *)chunk->q[i][g]);

                _mm256_store_si256((void *)ret,
                                   _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(zero, q), f[g]));
                _mm256_store_si256((void *)(ret + 16),
                                   _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(zero, q), f[g]));
            }
    }
}

/* Two operands that every lane meets. */
static inline __m256i two(const void *at)
{
    return _mm256_castps_si256(_mm256_broadcast_ss((const float *)at));
}

/*
 * One quad of inputs of a row for 16 outputs. Written out, as is the loop around four rows: it needs
 * all 16 registers, and gcc 12 keeps sums in memory, which costs a third of the speed. ymm8 to ymm11
 * are (w1, w3) and (w0, w2) of 8 outputs, and of the next 8.
 */
#define QUAD(a02, a13, d0, d1)                                                                     \
    "vpbroadcastd " a02 ", %%ymm12\n\t"                                                            \
    "vpbroadcastd " a13 ", %%ymm13\n\t"                                                            \
    "vpaddw %%ymm12, %%ymm8, %%ymm14\n\t"                                                          \
    "vpaddw %%ymm13, %%ymm9, %%ymm15\n\t"                                                          \
    "vpaddw %%ymm12, %%ymm10, %%ymm12\n\t"                                                         \
    "vpaddw %%ymm13, %%ymm11, %%ymm13\n\t"                                                         \
    "vpmaddwd %%ymm14, %%ymm15, %%ymm14\n\t"                                                       \
    "vpmaddwd %%ymm12, %%ymm13, %%ymm12\n\t"                                                       \
    "vpaddd %%ymm14, " d0 ", " d0 "\n\t"                                                           \
    "vpaddd %%ymm12, " d1 ", " d1 "\n\t"

/* clang-format off */
static inline void add_four_rows(__m256i dot[ROWS][2], const int16_t *w, const int16_t *end,
                                 const void *a, size_t stride, const void *ahead, size_t step)
{
    __asm__("1:\n\t"
            "vmovdqa (%[w]), %%ymm8\n\t"
            "vmovdqa 32(%[w]), %%ymm9\n\t"
            "vmovdqa 64(%[w]), %%ymm10\n\t"
            "vmovdqa 96(%[w]), %%ymm11\n\t"
            "sub $-128, %[w]\n\t"
            QUAD("(%[a])", "4(%[a])", "%[d00]", "%[d01]")
            QUAD("(%[a],%[s])", "4(%[a],%[s])", "%[d10]", "%[d11]")
            QUAD("(%[a],%[s],2)", "4(%[a],%[s],2)", "%[d20]", "%[d21]")
            QUAD("(%[a],%[s3])", "4(%[a],%[s3])", "%[d30]", "%[d31]")
            "prefetcht0 (%[p])\n\t"
            "add %[step], %[p]\n\t"
            "add $8, %[a]\n\t"
            "cmp %[end], %[w]\n\t"
            "jb 1b"
            : [w] "+r"(w), [a] "+r"(a), [p] "+r"(ahead), [d00] "+x"(dot[0][0]), [d01] "+x"(dot[0][1]),
              [d10] "+x"(dot[1][0]), [d11] "+x"(dot[1][1]), [d20] "+x"(dot[2][0]),
              [d21] "+x"(dot[2][1]), [d30] "+x"(dot[3][0]), [d31] "+x"(dot[3][1])
            : [end] "r"(end), [s] "r"(stride), [s3] "r"(3 * stride), [step] "r"(step)
            : "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}
/* clang-format on */
#undef QUAD

/* A sum that stays in its register. */
#define HOLD(vector) __asm__("" : "+x"(vector))

static inline const struct row_chunk *row_at(const uint8_t *input, size_t stride, uint32_t m)
{
    return (const struct row_chunk *)(const void *)(input + m * stride);
}

/* sum += dot s s, one rounding each for the product of the scales, for dot, and for the sum. */
static inline void add_scaled(const struct tile_chunk *chunk, const struct row_chunk *row,
                              const __m256i dot[2], float *sum)
{
    __m256 s = _mm256_broadcast_ss(&row->s);

    for (int i = 0; i < 2; i++) {
        __m256 both = _mm256_mul_ps(_mm256_load_ps(chunk->s + 8 * i), s);

        _mm256_store_ps(sum + 8 * i, _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[i]), both,
                                                     _mm256_load_ps(sum + 8 * i)));
    }
}

/* sum[m] += chunk's product for `rows` rows, a constant. */
static inline __attribute__((always_inline)) void
multiply_sums(const struct tile_chunk *chunk, const int16_t *w, uint32_t len, const uint8_t *input,
              size_t stride, float *sum, const uint8_t *ahead, size_t step, const uint32_t rows)
{
    const int16_t *end = w + len / 4 * QUAD_WORDS;
    const uint8_t *a = input;
    __m256i dot[ROWS][2];

    UNROLL
    for (uint32_t m = 0; m < rows; m++) {
        __m256i start = _mm256_set1_epi32(row_at(input, stride, m)->start);

        dot[m][0] = _mm256_add_epi32(start, _mm256_load_si256((const void *)chunk->start));
        dot[m][1] = _mm256_add_epi32(start, _mm256_load_si256((const void *)(chunk->start + 8)));
    }
    if (rows == 4)
        add_four_rows(dot, w, end, input, stride, ahead, step);
    for (; rows < 4 && w < end; w += QUAD_WORDS, a += 8) {
        __m256i wa0 = _mm256_load_si256((const void *)w);
        __m256i wb0 = _mm256_load_si256((const void *)(w + 16));
        __m256i wa1 = _mm256_load_si256((const void *)(w + 32));
        __m256i wb1 = _mm256_load_si256((const void *)(w + 48));

        UNROLL
        for (uint32_t m = 0; m < rows; m++) {
            __m256i a0 = two(a + m * stride), a1 = two(a + m * stride + 4);

            dot[m][0] = _mm256_add_epi32(
                dot[m][0], _mm256_madd_epi16(_mm256_add_epi16(wa0, a0), _mm256_add_epi16(wb0, a1)));
            dot[m][1] = _mm256_add_epi32(
                dot[m][1], _mm256_madd_epi16(_mm256_add_epi16(wa1, a0), _mm256_add_epi16(wb1, a1)));
            HOLD(dot[m][0]);
            HOLD(dot[m][1]);
        }
    }
    UNROLL
    for (uint32_t m = 0; m < rows; m++)
        add_scaled(chunk, row_at(input, stride, m), dot[m], sum + m * LANES);
}

/* The same sums for up to three rows without a detour: weights are expanded in registers. */
static inline __attribute__((always_inline)) void multiply_few(const struct tile_chunk *chunk,
                                                               uint32_t len, const uint8_t *input,
                                                               size_t stride, float *sum,
                                                               const uint32_t rows)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i dot[ROWS][2];

    UNROLL
    for (uint32_t m = 0; m < rows; m++)
        dot[m][0] = dot[m][1] = zero;
    for (uint32_t b = 0; b < len / BLOCK; b++) {
        __m256i f0 = factors(chunk->f[b]), f1 = factors(chunk->f[b] + 8);

        for (uint32_t i = 0; i < 8; i++) {
            __m256i q0 = _mm256_load_si256((const void *)chunk->q[b * 8 + i][0]);
            __m256i q1 = _mm256_load_si256((const void *)chunk->q[b * 8 + i][1]);
            __m256i wa0 = _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(zero, q0), f0);
            __m256i wb0 = _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(zero, q0), f0);
            __m256i wa1 = _mm256_mulhrs_epi16(_mm256_unpacklo_epi8(zero, q1), f1);
            __m256i wb1 = _mm256_mulhrs_epi16(_mm256_unpackhi_epi8(zero, q1), f1);

            UNROLL
            for (uint32_t m = 0; m < rows; m++) {
                const int16_t *a = row_at(input, stride, m)->a + (b * 8 + i) * 4;
                __m256i a0 = two(a), a1 = two(a + 2);

                dot[m][0] = _mm256_add_epi32(dot[m][0], _mm256_madd_epi16(wb0, a0));
                dot[m][1] = _mm256_add_epi32(dot[m][1], _mm256_madd_epi16(wb1, a0));
                dot[m][0] = _mm256_add_epi32(dot[m][0], _mm256_madd_epi16(wa0, a1));
                dot[m][1] = _mm256_add_epi32(dot[m][1], _mm256_madd_epi16(wa1, a1));
                HOLD(dot[m][0]);
                HOLD(dot[m][1]);
            }
        }
    }
    UNROLL
    for (uint32_t m = 0; m < rows; m++)
        add_scaled(chunk, row_at(input, stride, m), dot[m], sum + m * LANES);
}

/* A wide chunk for one row: q d is exact in single precision. */
static void multiply_wide(const struct tile_chunk *chunk, uint32_t len, const struct row_chunk *row,
                          float *sum)
{
    __attribute__((aligned(32), uninitialized)) float w[4][LANES];
    __m256 s = _mm256_broadcast_ss(&row->s), dot0 = _mm256_setzero_ps(), dot1 = dot0;

    for (uint32_t k = 0; k < len; k += 4) {
        const int8_t(*q)[32] = chunk->q[k / 4];
        const uint16_t *d = chunk->f[k / BLOCK];
        __m256 d0 = _mm256_cvtph_ps(_mm_load_si128((const void *)d));
        __m256 d1 = _mm256_cvtph_ps(_mm_load_si128((const void *)(d + 8)));

        for (int lane = 0; lane < LANES; lane++) {
            const int8_t *at = &q[lane / 8][lane % 8 / 4 * 16 + lane % 4 * 2];

            w[0][lane] = at[8];
            w[1][lane] = at[0];
            w[2][lane] = at[9];
            w[3][lane] = at[1];
        }
        for (int i = 0; i < 4; i++) {
            __m256 a = _mm256_set1_ps(row->a[k + (uint32_t)(i % 2 * 2 + i / 2)]);

            dot0 = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(w[i]), d0), a, dot0);
            dot1 = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(w[i] + 8), d1), a, dot1);
        }
    }
    _mm256_store_ps(sum, _mm256_fmadd_ps(dot0, s, _mm256_load_ps(sum)));
    _mm256_store_ps(sum + 8, _mm256_fmadd_ps(dot1, s, _mm256_load_ps(sum + 8)));
}

/* Rows four by four, while `lines` lines after this chunk are fetched. */
static void multiply_many(const struct tile_chunk *chunk, uint32_t len, const uint8_t *input,
                          size_t stride, float *sum, uint32_t rows)
{
    __attribute__((aligned(64), uninitialized)) int16_t w[CHUNK / 4 * QUAD_WORDS];
    const uint8_t *ahead = (const uint8_t *)chunk + chunk_bytes(len);
    uint32_t groups = (rows + ROWS - 1) / ROWS;
    size_t step = chunk_bytes(CHUNK) / (CHUNK / 4) / groups + 1;

    expand(chunk, len, w);
    for (uint32_t i = 0; i < groups;
         i++, input += ROWS * stride, sum += ROWS * LANES, ahead += step * CHUNK / 4) {
        switch (rows - i * ROWS) {
        case 1:
            multiply_sums(chunk, w, len, input, stride, sum, ahead, step, 1);
            break;
        case 2:
            multiply_sums(chunk, w, len, input, stride, sum, ahead, step, 2);
            break;
        case 3:
            multiply_sums(chunk, w, len, input, stride, sum, ahead, step, 3);
            break;
        default:
            multiply_sums(chunk, w, len, input, stride, sum, ahead, step, 4);
        }
    }
}

static void multiply_chunk(const struct tile_chunk *chunk, uint32_t len, const uint8_t *input,
                           size_t stride, float *sum, uint32_t rows)
{
    if (chunk->start[0] == WIDE)
        for (uint32_t m = 0; m < rows; m++)
            multiply_wide(chunk, len, row_at(input, stride, m), sum + m * LANES);
    else if (rows == 1)
        multiply_few(chunk, len, input, stride, sum, 1);
    else if (rows == 2)
        multiply_few(chunk, len, input, stride, sum, 2);
    else if (rows == 3)
        multiply_few(chunk, len, input, stride, sum, 3);
    else
        multiply_many(chunk, len, input, stride, sum, rows);
}

static void multiply(const struct panel *panel)
{
    __attribute__((aligned(64), uninitialized)) float sum[PANEL_ROWS * LANES];

    for (uint32_t first = 0; first < panel->rows; first += PANEL_ROWS) {
        uint32_t rows = panel->rows - first < PANEL_ROWS ? panel->rows - first : PANEL_ROWS;
        const uint8_t *input = panel->input + first * panel->row_bytes;
        const uint8_t *chunk = panel->weights;

        memset(sum, 0, rows * LANES * sizeof(float));
        for (uint32_t k = 0; k < panel->inputs; k += CHUNK) {
            uint32_t len = chunk_len(panel->inputs, k);

            multiply_chunk((const struct tile_chunk *)(const void *)chunk, len, input,
                           panel->row_bytes, sum, rows);
            chunk += chunk_bytes(len);
            input += sizeof(struct row_chunk);
        }
        for (uint32_t m = 0; m < rows; m++)
            memcpy(panel->out + (first + m) * panel->stride, sum + m * LANES,
                   LANES * sizeof(float));
    }
}

const struct product product_avx2_q8_0 = {
    .numerics = "avx2/q8_0-int16/1",
    .isa = ISA_AVX2,
    .type = TENSOR_Q8_0,
    .tile = LANES,
    .tile_bytes = tile_bytes,
    .row_bytes = row_bytes,
    .pack = pack,
    .seal = seal,
    .prepare = prepare,
    .multiply = multiply,
};
