/*
 * attend.c: attention over a paged context, for the query heads that share a key head. Compiled once
 * for each instruction set (LOOPS_ISA).
 *
 * A context is cut into splits of 256 positions, from position 0. For a query q and a split:
 *     s_t = (sum over d of q_d K_td) / sqrt(D)     m = max s_t     e_t = e^(s_t - m)
 *     l = sum of e_t, in LANES lanes t mod LANES, then neighbours first
 *     p_t = e_t (1 / l)                            o_d = sum over t of p_t V_td
 * sums over d and t ascending. Splits are folded from left to right: with m' the larger m,
 * a = l e^(m - m') of what was folded so far and b of the split, o = o a / (a + b) + o_split b / (a + b).
 * Operands of both products (q, K, V, p) are halves where the KV cache is, sums are floats.
 *
 * So a query's result depends on it and its context alone. Up to LOOPS_TILE queries go through a
 * split together, each number of K and V being loaded once for all: the heads of a row, and rows
 * that stand side by side. Positions past a row's own are left out, whatever they hold.
 */
#include "kernels/cpu/attend.h"

#include "kernels/cpu/loops.h"
#include "kernels/cpu/vector.h"

#include <math.h>

/* Queries whose sums stay in registers, two vectors each; AVX-512 has twice the registers. */
#if LANES == 16
#define QUERIES 8
#else
#define QUERIES 4
#endif

enum { BLOCK = LOOPS_BLOCK, SPLIT = LOOPS_SPLIT, TILE = LOOPS_TILE, LINE = 64 };

/* Queries first .. first + len - 1 of struct attend, row by row, and the split they meet. */
struct tile {
    const struct attend *at;
    uint32_t first, len;
    uint32_t start;           /* position at which the split begins */
    uint32_t positions[TILE]; /* of the split, that each query sees: ascending, at least 1 */
    float *q;                 /* [D][TILE] */
    float *score;             /* [TILE][SPLIT] */
    float *part;              /* [TILE][padded D] */
    float *most, *sum;        /* [queries] of what was folded so far */
};

ALWAYS vec load_kv(const void *at, size_t index, const bool half)
{
    return half ? load_half((const uint16_t *)at + index) : load((const float *)at + index);
}

ALWAYS const void *block_of(const struct tile *tile, const void *base, uint32_t t)
{
    return (const char *)base + tile->at->blocks[(tile->start + t) / BLOCK] * tile->at->block_bytes;
}

/* What lies in memory and is read soon: a block's V, and K of the block after it. */
struct ahead {
    const char *k, *v;
};

/* Queries i .. i + len - 1 (len a constant) against 2 LANES positions. */
ALWAYS void score_some(const float *q, const void *k, size_t at, uint32_t dims, const uint32_t len,
                       const bool half, const struct ahead *ahead, float *score)
{
    vec sum[QUERIES][2];

    for (uint32_t i = 0; i < len; i++)
        sum[i][0] = sum[i][1] = (vec){0};
    for (uint32_t d = 0; d < dims; d++, at += BLOCK, q += TILE) {
        vec low = load_kv(k, at, half), high = load_kv(k, at + LANES, half);

        __builtin_prefetch(ahead->k + (size_t)d * LINE);
        __builtin_prefetch(ahead->v + (size_t)d * LINE);
        for (uint32_t i = 0; i < len; i++) {
            vec one = all(q[i]);

            sum[i][0] = fused(one, low, sum[i][0]);
            sum[i][1] = fused(one, high, sum[i][1]);
        }
    }
    for (uint32_t i = 0; i < len; i++) {
        store(score + (size_t)i * SPLIT, sum[i][0]);
        store(score + (size_t)i * SPLIT + LANES, sum[i][1]);
    }
}

/* Scores of all positions that the last query sees, and some past them, which nobody reads. */
ALWAYS void score_tile(const struct tile *tile, const bool half)
{
    uint32_t dims = tile->at->head_dim, end = tile->positions[tile->len - 1];

    for (uint32_t t = 0; t < end; t += 2 * LANES) {
        const void *k = block_of(tile, tile->at->k, t);
        const struct ahead ahead = {
            t / BLOCK * BLOCK + BLOCK < end ? block_of(tile, tile->at->k, t + BLOCK)
                                            : tile->at->ahead,
            block_of(tile, tile->at->v, t),
        };
        uint32_t i = 0;

        for (; i + QUERIES <= tile->len; i += QUERIES)
            score_some(tile->q + i, k, t % BLOCK, dims, QUERIES, half, &ahead,
                       tile->score + i * SPLIT + t);
        if (QUERIES > 4 && i + 4 <= tile->len) {
            score_some(tile->q + i, k, t % BLOCK, dims, 4, half, &ahead,
                       tile->score + i * SPLIT + t);
            i += 4;
        }
        if (i + 2 <= tile->len) {
            score_some(tile->q + i, k, t % BLOCK, dims, 2, half, &ahead,
                       tile->score + i * SPLIT + t);
            i += 2;
        }
        if (i < tile->len)
            score_some(tile->q + i, k, t % BLOCK, dims, 1, half, &ahead,
                       tile->score + i * SPLIT + t);
    }
}

/* Queries (len a constant) and `width` (1 or 2) vectors of V's columns, positions from .. to - 1. */
ALWAYS void add_some(const struct tile *tile, uint32_t query, const uint32_t len, uint32_t column,
                     const uint32_t width, uint32_t from, uint32_t to, const bool half)
{
    const uint32_t padded = loops_padded(tile->at->head_dim);
    const float *weight = tile->score + (size_t)query * SPLIT;
    float *part = tile->part + (size_t)query * padded + column;
    vec sum[QUERIES][2];

    for (uint32_t i = 0; i < len; i++)
        for (uint32_t w = 0; w < width; w++)
            sum[i][w] = load(part + (size_t)i * padded + w * LANES);
    while (from < to) {
        const void *v = block_of(tile, tile->at->v, from);
        uint32_t end = (from / BLOCK + 1) * BLOCK;
        size_t at = (size_t)(from % BLOCK) * padded + column;

        for (end = end < to ? end : to; from < end; from++, at += padded) {
            vec low = load_kv(v, at, half);
            vec high = width > 1 ? load_kv(v, at + LANES, half) : low;

            for (uint32_t i = 0; i < len; i++) {
                vec one = all(weight[(size_t)i * SPLIT + from]);

                sum[i][0] = fused(one, low, sum[i][0]);
                if (width > 1)
                    sum[i][1] = fused(one, high, sum[i][1]);
            }
        }
    }
    for (uint32_t i = 0; i < len; i++)
        for (uint32_t w = 0; w < width; w++)
            store(part + (size_t)i * padded + w * LANES, sum[i][w]);
}

ALWAYS void add_columns(const struct tile *tile, uint32_t query, const uint32_t len, uint32_t from,
                        uint32_t to, const bool half)
{
    const uint32_t padded = loops_padded(tile->at->head_dim);
    uint32_t column = 0;

    for (; column + 2 * LANES <= padded; column += 2 * LANES)
        add_some(tile, query, len, column, 2, from, to, half);
    if (column < padded)
        add_some(tile, query, len, column, 1, from, to, half);
}

/* Positions from .. to - 1 for the queries from `query` on. */
ALWAYS void add_positions(const struct tile *tile, uint32_t query, uint32_t from, uint32_t to,
                          const bool half)
{
    for (; query + QUERIES <= tile->len; query += QUERIES)
        add_columns(tile, query, QUERIES, from, to, half);
    if (QUERIES > 4 && query + 4 <= tile->len) {
        add_columns(tile, query, 4, from, to, half);
        query += 4;
    }
    if (query + 2 <= tile->len) {
        add_columns(tile, query, 2, from, to, half);
        query += 2;
    }
    if (query < tile->len)
        add_columns(tile, query, 1, from, to, half);
}

/* Later queries see more positions: what only they see is added for them alone. */
ALWAYS void add_tile(const struct tile *tile, const bool half)
{
    uint32_t from = 0;

    memset(tile->part, 0, (size_t)tile->len * loops_padded(tile->at->head_dim) * sizeof(float));
    for (uint32_t query = 0; query < tile->len; query++)
        if (from < tile->positions[query]) {
            add_positions(tile, query, from, tile->positions[query], half);
            from = tile->positions[query];
        }
}

/* Turns the first `len` scores of a query into weights that sum to 1. */
ALWAYS void weigh(float *score, uint32_t len, float scale, const bool half, float *ret_most,
                  float *ret_sum)
{
    const ivec number = lane_numbers();
    vec most = all(-INFINITY), sum = {0};
    float lane[LANES], highest, part;

    for (uint32_t t = 0; t < len; t += LANES) {
        vec value = load(score + t) * scale;

        value = choose(number < (int32_t)(len - t), value, all(-INFINITY));
        store(score + t, value);
        most = larger(value, most);
    }
    store(lane, most);
    highest = lane[0];
    for (int i = 1; i < LANES; i++)
        highest = lane[i] > highest ? lane[i] : highest;
    for (uint32_t t = 0; t < len; t += LANES) {
        vec value = exponential(load(score + t) - highest); /* 0 past the end */

        store(score + t, value);
        sum += value;
    }
    *ret_most = highest;
    *ret_sum = add_lanes(sum);
    part = 1.0f / *ret_sum;
    for (uint32_t t = 0; t < len; t += LANES)
        store(score + t, half ? round_half(load(score + t) * part) : load(score + t) * part);
}

/* What was folded so far, and this split. */
static void fold(const struct tile *tile, uint32_t i, float most, float sum)
{
    const struct attend *at = tile->at;
    uint32_t query = tile->first + i;
    float *out = at->out + (size_t)(query / at->heads) * at->out_stride +
                 (size_t)(query % at->heads) * at->head_dim;
    const float *part = tile->part + (size_t)i * loops_padded(at->head_dim);
    float higher, before, now;

    if (tile->start == 0) {
        memcpy(out, part, at->head_dim * sizeof(float));
        tile->most[query] = most;
        tile->sum[query] = sum;
        return;
    }
    higher = most > tile->most[query] ? most : tile->most[query];
    before = tile->sum[query] * maths_exp32(tile->most[query] - higher);
    now = sum * maths_exp32(most - higher);
    tile->most[query] = higher;
    tile->sum[query] = before + now;
    before /= tile->sum[query];
    now /= tile->sum[query];
    for (uint32_t d = 0; d < at->head_dim; d++)
        out[d] = out[d] * before + part[d] * now;
}

/* Queries column by column, so that those of a tile lie side by side. */
static void collect_queries(const struct tile *tile)
{
    const struct attend *at = tile->at;

    for (uint32_t i = 0; i < tile->len; i++) {
        uint32_t query = tile->first + i;
        const float *q = at->q + (size_t)(query / at->heads) * at->q_stride +
                         (size_t)(query % at->heads) * at->head_dim;

        for (uint32_t d = 0; d < at->head_dim; d++)
            tile->q[(size_t)d * TILE + i] = q[d];
    }
}

ALWAYS void work(struct tile *tile, const bool half)
{
    const struct attend *at = tile->at;
    float scale = 1.0f / sqrtf((float)at->head_dim);
    float most[TILE], sum[TILE];

    for (uint32_t i = 0; i < tile->len; i++) {
        uint32_t seen = at->position + (tile->first + i) / at->heads + 1 - tile->start;

        tile->positions[i] = seen < SPLIT ? seen : SPLIT;
    }
    collect_queries(tile);
    score_tile(tile, half);
    for (uint32_t i = 0; i < tile->len; i++)
        weigh(tile->score + (size_t)i * SPLIT, tile->positions[i], scale, half, &most[i], &sum[i]);
    add_tile(tile, half);
    for (uint32_t i = 0; i < tile->len; i++)
        fold(tile, i, most[i], sum[i]);
}

static void work_half(struct tile *tile)
{
    work(tile, true);
}

static void work_float(struct tile *tile)
{
    work(tile, false);
}

/* Split by split, so that its K and V stay in the second cache while all queries pass. */
void OF_ISA(attend)(const struct attend *at)
{
    uint32_t queries = at->rows * at->heads;
    uint32_t state = (2 * queries + LOOPS_WIDEST - 1) / LOOPS_WIDEST * LOOPS_WIDEST;
    struct tile tile = {.at = at, .most = at->scratch, .sum = at->scratch + queries};

    tile.q = at->scratch + state;
    tile.score = tile.q + (size_t)TILE * loops_padded(at->head_dim);
    tile.part = tile.score + (size_t)TILE * SPLIT;
    for (uint32_t start = 0; start < at->position + at->rows; start += SPLIT) {
        uint32_t row = start > at->position ? start - at->position : 0;

        tile.start = start;
        for (tile.first = row * at->heads; tile.first < queries; tile.first += TILE) {
            tile.len = queries - tile.first < TILE ? queries - tile.first : TILE;
            if (at->half)
                work_half(&tile);
            else
                work_float(&tile);
        }
    }
}
