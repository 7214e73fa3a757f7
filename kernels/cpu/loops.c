/*
 * loops.c: loops over the numbers of a row, compiled once for each instruction set (LOOPS_ISA). What
 * a whole vector does not cover is done as a vector with lanes left out, so that a number is treated
 * alike wherever it stands.
 */
#include "kernels/cpu/loops.h"

#include "kernels/cpu/attend.h"
#include "kernels/cpu/vector.h"

#include <math.h>

/* Four sums side by side, each of LANES lanes. */
static float add_squares(const float *x, uint32_t len)
{
    vec sum[4] = {{0}};
    uint32_t at = 0;

    for (; at + 4 * LANES <= len; at += 4 * LANES)
        for (uint32_t i = 0; i < 4; i++) {
            vec value = load(x + at + i * LANES);

            sum[i] = fused(value, value, sum[i]);
        }
    for (uint32_t i = 0; at < len; at += LANES, i++) {
        vec value = load_some(x + at, len - at < LANES ? len - at : LANES);

        sum[i] = fused(value, value, sum[i]);
    }
    return add_lanes((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void norm(float *x, const float *delta, const float *gain, uint32_t len, float eps,
                 float *out)
{
    uint32_t at = 0;
    double mean;
    float scale;

    for (uint32_t i = 0; delta != NULL && i < len; i++)
        x[i] += delta[i];
    mean = (double)add_squares(x, len) / len;
    scale = (float)(1.0 / sqrt(mean + (double)eps));
    for (; at + LANES <= len; at += LANES)
        store(out + at, load(x + at) * scale * load(gain + at));
    for (; at < len; at++)
        out[at] = x[at] * scale * gain[at];
}

#if LANES == 16
#define EVEN 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14
#define ODD  1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15
#define SWAP 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#elif LANES == 8
#define EVEN 0, 0, 2, 2, 4, 4, 6, 6
#define ODD  1, 1, 3, 3, 5, 5, 7, 7
#define SWAP 1, 0, 3, 2, 5, 4, 7, 6
#else
#define EVEN 0, 0, 2, 2
#define ODD  1, 1, 3, 3
#define SWAP 1, 0, 3, 2
#endif

/* (a c - b s, a s + b c) for neighbours a, b: the sign goes to the sines of the first. */
static void rotate_head(float *x, uint32_t dims, const float *angle)
{
    const uvec first = (uvec)(lane_numbers() & 1) - 1; /* all ones in even lanes */
    uint32_t i = 0;

    for (; i + LANES <= dims; i += LANES) {
        vec value = load(x + i), turn = load(angle + i);
        vec cosine = __builtin_shufflevector(turn, turn, EVEN);
        vec sine = __builtin_shufflevector(turn, turn, ODD);
        vec other = __builtin_shufflevector(value, value, SWAP);

        sine = (vec)((uvec)sine ^ (first & 0x80000000u));
        store(x + i, value * cosine + other * sine);
    }
    for (; i < dims; i += 2) {
        float a = x[i], b = x[i + 1];

        x[i] = a * angle[i] - b * angle[i + 1];
        x[i + 1] = a * angle[i + 1] + b * angle[i];
    }
}

static void rotate(float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim,
                   const float *angle)
{
    for (uint32_t head = 0; head < heads; head++)
        rotate_head(x + (size_t)head * head_dim, rope_dim, angle);
}

static void round_halves(float *x, uint32_t len)
{
    uint32_t at = 0;

    for (; at + LANES <= len; at += LANES)
        store(x + at, round_half(load(x + at)));
    if (at < len)
        store_some(x + at, round_half(load_some(x + at, len - at)), len - at);
}

static void to_half(const float *x, uint32_t len, uint16_t *out)
{
    uint32_t at = 0;

    for (; at + LANES <= len; at += LANES)
        store_half(out + at, load(x + at));
    if (at < len) {
        uint16_t some[LANES];

        store_half(some, load_some(x + at, len - at));
        memcpy(out + at, some, (len - at) * sizeof(*out));
    }
}

ALWAYS vec silu(vec x)
{
    return x / (1.0f + exponential(-x));
}

static void glu(const float *gate, const float *up, uint32_t len, float *out)
{
    uint32_t at = 0;

    for (; at + LANES <= len; at += LANES)
        store(out + at, silu(load(gate + at)) * load(up + at));
    if (at < len)
        store_some(out + at, silu(load_some(gate + at, len - at)) * load_some(up + at, len - at),
                   len - at);
}

/* All exponent bits are set in infinities and NaN alone. */
static bool all_finite(const float *logits, uint32_t vocab)
{
    uvec worst = {0};
    uint32_t at = 0;
    bool good = true;

    for (; at < vocab; at += LANES) {
        vec value = vocab - at < LANES ? load_some(logits + at, vocab - at) : load(logits + at);
        uvec bits = (uvec)value & 0x7f800000u;

        worst |= (uvec)(bits == 0x7f800000u);
    }
    for (int i = 0; i < LANES; i++)
        good = good && worst[i] == 0;
    return good;
}

/* Each lane keeps its first highest; of these the highest wins, and of equals the first. */
static uint32_t greedy(const float *logits, uint32_t vocab)
{
    uint32_t whole = vocab / LANES * LANES;
    vec most = whole > 0 ? load(logits) : all(0.0f);
    ivec where = lane_numbers(), number = where;
    uint32_t best = 0;

    for (uint32_t at = LANES; at < whole; at += LANES) {
        vec value = load(logits + at);
        ivec more = value > most;

        number += LANES;
        most = choose(more, value, most);
        where = (more & number) | (~more & where);
    }
    for (int i = 0; whole > 0 && i < LANES; i++) {
        uint32_t id = (uint32_t)where[i];

        if (logits[id] > logits[best] || (!(logits[id] < logits[best]) && id < best))
            best = id;
    }
    for (uint32_t id = whole; id < vocab; id++)
        if (logits[id] > logits[best])
            best = id;
    return best;
}

static void weigh(const float *logits, uint32_t vocab, float highest, float temperature,
                  float *weight)
{
    uint32_t at = 0;

    for (; at + LANES <= vocab; at += LANES)
        store(weight + at, exponential((load(logits + at) - highest) / temperature));
    if (at < vocab)
        store_some(weight + at,
                   exponential((load_some(logits + at, vocab - at) - highest) / temperature),
                   vocab - at);
}

/* As in sample.h: sixteen sums, whatever LANES is. */
static float logprob(const float *logits, uint32_t vocab, uint32_t id)
{
    enum { SUMS = 16 };
    const float highest = logits[greedy(logits, vocab)];
    double sum[SUMS] = {0.0}, total = 0.0, value;
    float part[SUMS];
    uint32_t at = 0;

    for (; at + SUMS <= vocab; at += SUMS) {
        for (uint32_t i = 0; i < SUMS; i += LANES)
            store(part + i, exponential(load(logits + at + i) - highest));
        for (uint32_t i = 0; i < SUMS; i++)
            sum[i] += (double)part[i];
    }
    for (uint32_t i = 0; at + i < vocab; i++)
        sum[i] += (double)maths_exp32(logits[at + i] - highest);
    for (uint32_t i = 0; i < SUMS; i++)
        total += sum[i];
    value = ((double)logits[id] - (double)highest) - maths_log(total);
    return value < 0.0 ? (float)value : 0.0f;
}

const struct loops OF_ISA(loops) = {
    .norm = norm,
    .rotate = rotate,
    .round_half = round_halves,
    .to_half = to_half,
    .glu = glu,
    .attend = OF_ISA(attend),
    .sample = {all_finite, greedy, weigh, logprob},
};
