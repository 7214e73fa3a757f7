/*
 * sample_row.cuh: a row of logits as sampling sees it: each token's weight after penalties, mask
 * and filters, its mass, and the way over all of them in reads of 16 bytes.
 *
 *   weight(i) = e^((logit(i) - highest) / temperature), in float, as on the host
 *   mass(i)   = floor(weight(i) * 2^43)
 *
 * Weights are compared as floats (their bits stand in their order), added up as masses, which no
 * order of threads changes; 2^20 of them stay below 2^64. What is lost: a token that weighs less
 * than 2^-43 (1.1e-13) of the highest is never taken, and the others lose less than 2^-43 each, all
 * of 2^17 together less than 1.5e-8 of the highest.
 */
#ifndef MSERVE_KERNELS_CUDA_SAMPLE_ROW_CUH
#define MSERVE_KERNELS_CUDA_SAMPLE_ROW_CUH

#include "kernels/cuda/simt.cuh"
#include "kernels/maths.h"

static constexpr uint32_t MASS_BITS = 43;
static constexpr uint32_t ONE = 0x3f800000u;               /* the bits of weight 1 */
static constexpr uint32_t LEAST = (127 - MASS_BITS) << 23; /* of 2^-43: mass 1 */
/* The exponent from which on a mass has the whole mantissa. */
static constexpr uint32_t WHOLE = 127 - MASS_BITS + 23;

/*
 * A row of logits and what of it is still kept: what weighs more than `least`, and what weighs as
 * much with an id up to `last`. A quad is 16 aligned bytes: quad q holds ids 4q - skew to 4q - skew
 * + 3.
 */
struct field {
    const float *logits;
    uint32_t vocab;
    uint32_t skew, quads;
    const uint32_t *mask; /* NULL: all are allowed */
    const uint16_t *seen; /* NULL: no penalties */
    float presence, frequency, repetition;
    float highest, temperature;
    float cutoff; /* what is further below the highest than this weighs less than `least` */
    uint32_t least, last;
};

/* ---- a token ---- */

DEVICE bool allowed(const struct field *field, uint32_t id)
{
    return field->mask == NULL || (field->mask[id / 32] >> (id % 32) & 1) != 0;
}

/* The logit after penalties. What leaves the range of float stays at its end. */
DEVICE float penalised(const struct field *field, uint32_t id, float logit)
{
    uint32_t times = field->seen != NULL ? field->seen[id] : 0;

    if (times == 0)
        return logit;
    logit = logit > 0.0f ? logit / field->repetition : logit * field->repetition;
    logit = logit - static_cast<float>(times) * field->frequency;
    logit = logit - field->presence;
    return fmaxf(fminf(logit, 3.40282347e38f), -3.40282347e38f);
}

/* The bits of the token's weight; 0 when it is not kept. */
DEVICE uint32_t weight_of(const struct field *field, uint32_t id, float logit)
{
    float below;
    uint32_t bits;

    if (!allowed(field, id))
        return 0;
    below = penalised(field, id, logit) - field->highest;
    if (!(below >= field->cutoff))
        return 0;
    bits = bits_of(maths_exp32(below / field->temperature));
    if (bits < field->least || bits > ONE || (bits == field->least && id > field->last))
        return 0;
    return bits;
}

DEVICE uint64_t mass_of(uint32_t bits)
{
    uint32_t exponent = bits >> 23;
    uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;

    if (bits < LEAST)
        return 0;
    return exponent >= WHOLE ? mantissa << (exponent - WHOLE) : mantissa >> (WHOLE - exponent);
}

/*
 * `least` has been set: says what need not be weighed. ln 2 times its exponent, with room to spare.
 */
DEVICE void set_cutoff(struct field *field)
{
    float octaves = static_cast<float>(field->least >> 23) - 127.0f;

    field->cutoff = field->temperature * (octaves * 0.6931472f - 0.01f);
}

/* ---- over the row ---- */

DEVICE struct quad load(const struct field *field, uint32_t at)
{
    uint32_t id = 4 * at - field->skew; /* of the first; it and others may lie outside */
    struct quad quad = {{0, 0, 0, 0}};

    if (id < field->vocab && field->vocab - id >= 4)
        return load_16(field->logits + id);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        if (id + i < field->vocab)
            quad.word[i] = bits_of(field->logits[id + i]);
    return quad;
}

template <class EACH>
DEVICE void visit(const struct field *field, uint32_t at, struct quad quad, EACH *each)
{
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t id = 4 * at - field->skew + i;

        if (id < field->vocab)
            see(each, id, float_of(quad.word[i]));
    }
}

/*
 * Calls see(each, id, logit) for the ids of quads from, from + step … before `end`, in this order.
 * DEPTH reads are under way at a time.
 */
template <uint32_t DEPTH, class EACH>
DEVICE void walk(const struct field *field, uint32_t from, uint32_t end, uint32_t step, EACH *each)
{
    for (uint32_t at = from; at < end; at += DEPTH * step) {
        struct quad quad[DEPTH];

        UNROLL
        for (uint32_t i = 0; i < DEPTH; i++) /* past the end: the quad after all, without ids */
            quad[i] = load(field, at + i * step < end ? at + i * step : field->quads);
        UNROLL
        for (uint32_t i = 0; i < DEPTH; i++)
            visit(field, at + i * step < end ? at + i * step : field->quads, quad[i], each);
    }
}

#endif
