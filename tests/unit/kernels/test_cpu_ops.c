/*
 * test_cpu_ops.c: the loops of the `cpu` backend, on each instruction set that this machine runs:
 * what gives `ref`'s bits gives them at every length, norms and attention are near the formulas in
 * doubles, and a row's attention is the same bits alone, in a chunk, and beside poison.
 */
#include "kernels/cpu/loops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/buffer.h"
#include "each_isa.h"
#include "kernels/maths.h"
#include "kernels/model/tensor.h"

enum { LEN_MAX = 300, BLOCK = LOOPS_BLOCK };

static uint32_t seed = 1;

static float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) * 0x1p-23f - 1.0f;
}

static void fill(float *x, size_t len, float size)
{
    for (size_t i = 0; i < len; i++)
        x[i] = uniform() * size;
}

static const struct loops *loops_or_skip(void **state)
{
    enum isa isa;

    if (!isa_find(*state, &isa)) {
        print_message("this machine does not run %s\n", (const char *)*state);
        skip();
    }
    return loops_of(isa);
}

static double nmse(const double *want, const float *got, size_t len)
{
    double error = 0.0, size = 0.0;

    for (size_t i = 0; i < len; i++) {
        error += (want[i] - (double)got[i]) * (want[i] - (double)got[i]);
        size += want[i] * want[i];
    }
    return error / size;
}

static void test_halves_are_refs(void **state)
{
    const struct loops *loops = loops_or_skip(state);
    static const float odd[] = {0.0f,     -0.0f,    65519.0f, 65520.0f, 1e30f,  -1e30f, 0x1p-14f,
                                0x1p-24f, 0x1p-25f, 6e-8f,    5.9e-5f,  -3e-7f, 1e-40f, INFINITY};
    const uint32_t odd_len = sizeof(odd) / sizeof(odd[0]);
    float x[LEN_MAX], got[LEN_MAX];
    uint16_t half[LEN_MAX];

    fill(x, LEN_MAX, 3.0f);
    memcpy(x, odd, sizeof(odd));
    for (uint32_t i = odd_len; i < 100; i++)
        x[i] *= 0x1p-15f;
    for (uint32_t len = 1; len <= LEN_MAX; len += len < 70 ? 1 : 46) {
        memcpy(got, x, sizeof(got));
        loops->round_half(got, len);
        loops->to_half(x, len, half);
        for (uint32_t i = 0; i < len; i++) {
            float want = maths_half(x[i]), stored = tensor_half(half[i]);

            assert_memory_equal(&got[i], &want, sizeof(want));
            assert_memory_equal(&stored, &want, sizeof(want));
        }
        assert_memory_equal(got + len, x + len, (LEN_MAX - len) * sizeof(float));
    }
}

static void test_rotation_and_glu_are_refs_to_the_bit(void **state)
{
    const struct loops *loops = loops_or_skip(state);
    float gate[LEN_MAX], up[LEN_MAX], got[LEN_MAX], want[LEN_MAX];

    fill(gate, LEN_MAX, 100.0f);
    fill(up, LEN_MAX, 2.0f);
    for (uint32_t len = 1; len <= LEN_MAX; len += len < 70 ? 1 : 46) {
        memset(got, 0, sizeof(got));
        loops->glu(gate, up, len, got);
        for (uint32_t i = 0; i < len; i++)
            want[i] = gate[i] / (1.0f + maths_exp32(-gate[i])) * up[i];
        assert_memory_equal(got, want, len * sizeof(float));
        assert_true(len == LEN_MAX || got[len] == 0.0f);
    }
    for (uint32_t dims = 2; dims <= 100; dims += dims < 40 ? 2 : 30) {
        memcpy(got, gate, sizeof(got));
        loops->rotate(got, 3, 100, dims, up);
        memcpy(want, gate, sizeof(want));
        for (uint32_t head = 0; head < 3; head++)
            for (uint32_t i = 0; i < dims; i += 2) {
                float *x = want + (size_t)head * 100 + i, a = x[0], b = x[1];

                x[0] = a * up[i] - b * up[i + 1];
                x[1] = a * up[i + 1] + b * up[i];
            }
        assert_memory_equal(got, want, sizeof(got));
    }
}

static void test_norms_are_near_the_formula(void **state)
{
    const struct loops *loops = loops_or_skip(state);
    float x[LEN_MAX], delta[LEN_MAX], gain[LEN_MAX], got[LEN_MAX], sum[LEN_MAX];
    double want[LEN_MAX];

    for (uint32_t len = 1; len <= LEN_MAX; len += len < 70 ? 1 : 46) {
        double squares = 0.0;

        fill(x, LEN_MAX, 5.0f);
        fill(delta, LEN_MAX, 1.0f);
        fill(gain, LEN_MAX, 2.0f);
        for (uint32_t i = 0; i < len; i++)
            squares += (double)(x[i] + delta[i]) * (double)(x[i] + delta[i]);
        for (uint32_t i = 0; i < len; i++) {
            sum[i] = x[i] + delta[i];
            want[i] = (double)sum[i] / sqrt(squares / len + 1e-5) * (double)gain[i];
        }
        loops->norm(x, delta, gain, len, 1e-5f, got);
        assert_memory_equal(x, sum, len * sizeof(float));
        assert_true(nmse(want, got, len) < 1e-13);
        loops->norm(x, NULL, gain, len, 1e-5f, got);
        assert_memory_equal(x, sum, len * sizeof(float));
        assert_true(nmse(want, got, len) < 1e-13);
    }
}

/* Many ties, at every place; then one NaN or infinity, at every place. */
static void test_sampling_loops_are_the_plain_ones(void **state)
{
    const struct loops *loops = loops_or_skip(state);
    float logits[LEN_MAX], got[LEN_MAX], want[LEN_MAX];

    for (uint32_t len = 1; len <= LEN_MAX; len++) {
        for (uint32_t i = 0; i < LEN_MAX; i++)
            logits[i] = i < len ? floorf(uniform() * 6.0f) : 100.0f;
        assert_int_equal(loops->sample.greedy(logits, len), sample_greedy(logits, len));
        fill(logits, LEN_MAX, 200.0f);
        assert_int_equal(loops->sample.greedy(logits, len), sample_greedy(logits, len));
        loops->sample.weigh(logits, len, 200.0f, 1.3f, got);
        sample_plain.weigh(logits, len, 200.0f, 1.3f, want);
        assert_memory_equal(got, want, len * sizeof(float));
        got[0] = loops->sample.logprob(logits, len, len / 2);
        want[0] = sample_logprob(logits, len, len / 2);
        assert_memory_equal(got, want, sizeof(float));
        assert_true(loops->sample.finite(logits, len));
        logits[len - 1] = len % 3 == 0 ? NAN : len % 3 == 1 ? INFINITY : -INFINITY;
        assert_false(loops->sample.finite(logits, len));
        assert_true(len == 1 || loops->sample.finite(logits, len - 1));
    }
}

/* A context of random numbers in scattered blocks, of which `positions` are written. */
struct context {
    struct attend attend;
    uint32_t positions;
    uint32_t blocks[64];
    uint8_t *memory;
    float *k, *v; /* [positions][D] as they were stored */
    float *q;     /* [positions][heads][D] */
};

static void put(const struct context *context, uint32_t t, uint32_t d, float k, float v)
{
    const struct attend *at = &context->attend;
    size_t block = context->blocks[t / BLOCK] * at->block_bytes, in = t % BLOCK;
    uint8_t *to_k = context->memory + block + (at->half ? 2 : 4) * (d * BLOCK + in);
    uint8_t *to_v = context->memory + block + ((const char *)at->v - (const char *)at->k) +
                    (at->half ? 2 : 4) * (in * loops_padded(at->head_dim) + d);
    uint16_t half[] = {maths_half_bits(k), maths_half_bits(v)};

    memcpy(to_k, at->half ? (void *)&half[0] : (void *)&k, at->half ? 2 : 4);
    memcpy(to_v, at->half ? (void *)&half[1] : (void *)&v, at->half ? 2 : 4);
}

static void context_init(struct context *context, uint32_t positions, uint32_t heads, uint32_t dims,
                         bool half)
{
    size_t number = half ? 2 : 4, k_bytes = number * dims * BLOCK;
    size_t v_bytes = number * loops_padded(dims) * BLOCK;
    uint32_t blocks = (positions + BLOCK - 1) / BLOCK;

    context->positions = positions;
    context->memory = aligned_alloc(64, (blocks * (k_bytes + v_bytes) + 63) / 64 * 64);
    memset(context->memory, 0, blocks * (k_bytes + v_bytes));
    context->attend = (struct attend){
        .rows = positions,
        .heads = heads,
        .head_dim = dims,
        .q_stride = heads * dims,
        .out_stride = heads * dims,
        .blocks = context->blocks,
        .k = context->memory,
        .v = context->memory + k_bytes,
        .block_bytes = k_bytes + v_bytes,
        .half = half,
    };
    for (uint32_t i = 0; i < blocks; i++)
        context->blocks[i] = blocks - 1 - i;
    context->k = xcalloc((size_t)positions * dims, sizeof(float));
    context->v = xcalloc((size_t)positions * dims, sizeof(float));
    context->q = xcalloc((size_t)positions * heads * dims, sizeof(float));
    fill(context->k, (size_t)positions * dims, 2.0f);
    fill(context->v, (size_t)positions * dims, 2.0f);
    fill(context->q, (size_t)positions * heads * dims, 2.0f);
    for (uint32_t i = 0; half && i < positions * heads * dims; i++)
        context->q[i] = maths_half(context->q[i]);
    for (uint32_t i = 0; half && i < positions * dims; i++) {
        context->k[i] = maths_half(context->k[i]);
        context->v[i] = maths_half(context->v[i]);
    }
    context->attend.q = context->q;
    context->attend.scratch =
        aligned_alloc(64, (attend_scratch(positions, heads, dims) * sizeof(float) + 63) / 64 * 64);
}

static void context_release(struct context *context)
{
    free(context->memory);
    free(context->k);
    free(context->v);
    free(context->q);
    free(context->attend.scratch);
}

/* Positions from .. to - 1 exist, those after them hold NaN. */
static void write_positions(const struct context *context, uint32_t from, uint32_t to)
{
    uint32_t dims = context->attend.head_dim;

    for (uint32_t t = from; t < (context->positions + BLOCK - 1) / BLOCK * BLOCK; t++)
        for (uint32_t d = 0; d < dims; d++)
            put(context, t, d, t < to ? context->k[(size_t)t * dims + d] : NAN,
                t < to ? context->v[(size_t)t * dims + d] : NAN);
}

/* The formula, for one query. */
static void attend_exactly(const struct context *context, uint32_t row, uint32_t head, double *out)
{
    uint32_t dims = context->attend.head_dim;
    const float *q = context->q + ((size_t)row * context->attend.heads + head) * dims;
    double *weight = xcalloc(row + 1, sizeof(*weight));
    double most = -INFINITY, sum = 0.0;

    for (uint32_t t = 0; t <= row; t++) {
        for (uint32_t d = 0; d < dims; d++)
            weight[t] += (double)q[d] * (double)context->k[(size_t)t * dims + d];
        weight[t] /= sqrt((double)dims);
        most = fmax(most, weight[t]);
    }
    for (uint32_t t = 0; t <= row; t++)
        sum += weight[t] = exp(weight[t] - most);
    memset(out, 0, dims * sizeof(*out));
    for (uint32_t t = 0; t <= row; t++)
        for (uint32_t d = 0; d < dims; d++)
            out[d] += weight[t] / sum * (double)context->v[(size_t)t * dims + d];
    free(weight);
}

static void check_attention(const struct loops *loops, uint32_t positions, uint32_t heads,
                            uint32_t dims, bool half)
{
    size_t row = (size_t)heads * dims;
    float *whole = xcalloc(positions * row, sizeof(float));
    float *pieces = xcalloc(positions * row, sizeof(float));
    double want[1024];
    struct context context;
    struct attend piece;

    context_init(&context, positions, heads, dims, half);
    write_positions(&context, 0, positions);
    context.attend.out = whole;
    loops->attend(&context.attend);
    for (uint32_t i = 0; i < positions; i += 1 + positions / 7)
        for (uint32_t head = 0; head < heads; head++) {
            attend_exactly(&context, i, head, want);
            assert_true(nmse(want, whole + i * row + (size_t)head * dims, dims) <
                        (half ? 1e-6 : 1e-11));
        }
    for (uint32_t from = 0, len = 1; from < positions; from += len, len = len % 9 * 3 + 1) {
        len = positions - from < len ? positions - from : len;
        write_positions(&context, from, from + len);
        piece = context.attend;
        piece.position = from;
        piece.rows = len;
        piece.q = context.q + from * row;
        piece.out = pieces + from * row;
        loops->attend(&piece);
    }
    assert_memory_equal(whole, pieces, positions * row * sizeof(float));
    context_release(&context);
    free(whole);
    free(pieces);
}

/* Heads of any size and number, contexts over several splits; whole, and in pieces beside NaN. */
static void test_attention_is_near_the_formula_and_the_same_in_pieces(void **state)
{
    const struct loops *loops = loops_or_skip(state);
    static const struct {
        uint32_t positions, heads, dims;
    } shapes[] = {{1, 1, 2},    {33, 8, 64}, {70, 1, 10},  {100, 3, 80},
                  {300, 2, 48}, {257, 5, 8}, {600, 1, 34}, {40, 9, 128}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int half = 0; half < 2; half++)
            check_attention(loops, shapes[i].positions, shapes[i].heads, shapes[i].dims, half);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        EACH(test_halves_are_refs),
        EACH(test_rotation_and_glu_are_refs_to_the_bit),
        EACH(test_norms_are_near_the_formula),
        EACH(test_sampling_loops_are_the_plain_ones),
        EACH(test_attention_is_near_the_formula_and_the_same_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
