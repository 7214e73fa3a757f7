/* cost.c: fixed-point shares, then the largest fractions by one pass over a histogram. */
#include "kernels/core/cost.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"

enum { BINS = 256, BIN_SHIFT = 24 };

__extension__ typedef unsigned __int128 u128;

void cost_scratch_init(struct cost_scratch *scratch, uint32_t sequences_max)
{
    scratch->fraction = xcalloc(sequences_max, sizeof(uint32_t));
    scratch->candidate = xcalloc(sequences_max, sizeof(uint32_t));
}

void cost_scratch_release(struct cost_scratch *scratch)
{
    free(scratch->fraction);
    free(scratch->candidate);
    *scratch = (struct cost_scratch){0};
}

void cost_parts(uint64_t total_ns, const uint32_t share_ppm[PART_COUNT],
                uint64_t ret_part_ns[PART_COUNT])
{
    uint64_t rest = total_ns;

    for (int part = PART_COUNT - 1; part > PART_FIXED; part--) {
        ret_part_ns[part] = (uint64_t)((u128)total_ns * share_ppm[part] / 1000000);
        assert(ret_part_ns[part] <= rest);
        rest -= ret_part_ns[part];
    }
    ret_part_ns[PART_FIXED] = rest;
}

/*
 * Prices of a sequence, a row, a KV token of a plain entry and of a chunk, and a wanted row in
 * 2^-shift ns, rounded down.
 */
struct prices {
    uint64_t each, row, plain_kv, chunk_kv, wanted;
    unsigned shift;
};

static uint64_t price(uint64_t part_ns, unsigned shift, uint64_t takers)
{
    return (uint64_t)(((u128)part_ns << shift) / takers);
}

/* Of a KV token of that weight: multiplied before it is rounded. */
static uint64_t kv_price(const uint64_t part_ns[PART_COUNT], unsigned shift, uint16_t weight,
                         uint64_t kv_sum)
{
    if (kv_sum == 0)
        return 0;
    return (uint64_t)(((u128)part_ns[PART_ATTENTION] * weight << shift) / kv_sum);
}

static struct prices find_prices(const uint64_t part_ns[PART_COUNT], uint64_t total_ns,
                                 const struct cost_work *work)
{
    const unsigned room = (unsigned)__builtin_clzll(total_ns | 1) - 1;
    const unsigned shift = room < 40 ? room : 40;
    const bool head = work->wanted_sum > 0, attention = work->kv_sum > 0;
    const uint64_t fixed_ns = part_ns[PART_FIXED] + (head ? 0 : part_ns[PART_HEAD]) +
                              (attention ? 0 : part_ns[PART_ATTENTION]);

    return (struct prices){
        .each = price(fixed_ns, shift, work->sequences),
        .row = price(part_ns[PART_LINEAR], shift, work->rows_sum),
        .plain_kv = kv_price(part_ns, shift, work->plain_weight, work->kv_sum),
        .chunk_kv = kv_price(part_ns, shift, work->chunk_weight, work->kv_sum),
        .wanted = head ? price(part_ns[PART_HEAD], shift, work->wanted_sum) : 0,
        .shift = shift,
    };
}

/* The highest bin that not all of get one; *left becomes how many in it do. */
static uint32_t find_border(const uint32_t *bins, uint32_t *left)
{
    uint32_t bin = BINS - 1;

    while (*left >= bins[bin])
        *left -= bins[bin--];
    return bin;
}

/*
 * One nanosecond each for the `left` largest fractions, left < n. A histogram of their upper eight
 * bits says in which bin the border lies: those above it get one, and those within it are told
 * apart by the next eight bits. At the end the remaining ones are equal: the first of them.
 */
static void give_to_largest(uint32_t n, uint32_t left, struct cost_scratch *scratch,
                            uint32_t bins[BINS], uint64_t *ns)
{
    const uint32_t *fraction = scratch->fraction;
    uint32_t *candidate = scratch->candidate;
    uint32_t border = find_border(bins, &left), len = 0;

    for (uint32_t i = 0; i < n; i++)
        ns[i] += fraction[i] >> BIN_SHIFT > border;
    for (uint32_t i = 0; left > 0 && i < n; i++)
        if (fraction[i] >> BIN_SHIFT == border)
            candidate[len++] = i;
    for (unsigned shift = BIN_SHIFT; shift > 0 && left > 0;) {
        const uint32_t count = len;

        shift -= 8;
        memset(bins, 0, BINS * sizeof(*bins));
        for (uint32_t i = 0; i < count; i++)
            bins[fraction[candidate[i]] >> shift & (BINS - 1)]++;
        border = find_border(bins, &left);
        len = 0;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t bits = fraction[candidate[i]] >> shift & (BINS - 1);

            ns[candidate[i]] += bits > border;
            candidate[len] = candidate[i];
            len += bits == border;
        }
    }
    for (uint32_t i = 0; i < left; i++)
        ns[candidate[i]]++;
}

/* Splits one entry's fixed-point share; returns its whole nanoseconds. */
static inline uint64_t put_share(uint64_t raw, unsigned shift, uint32_t *fraction, uint32_t *bins)
{
    *fraction = (uint32_t)(raw << (64 - shift) >> 32);
    bins[*fraction >> BIN_SHIFT]++;
    return raw >> shift;
}

void cost_split(const uint64_t part_ns[PART_COUNT], const struct cost_work *work,
                struct cost_scratch *scratch, uint64_t *ret_ns)
{
    const uint32_t n = work->sequences, plain = work->plain, *ctx = work->ctx;
    uint32_t bins[BINS] = {0}, *fraction = scratch->fraction;
    uint64_t total_ns = 0, given_ns = 0;

    for (int part = 0; part < PART_COUNT; part++)
        total_ns += part_ns[part];
    assert(n > 0 && plain <= n && total_ns < 1ull << 62);
    const struct prices prices = find_prices(part_ns, total_ns, work);
    const uint64_t base = prices.each + prices.row + prices.plain_kv + prices.wanted;

    for (uint32_t i = 0; i < plain; i++) {
        const uint64_t raw = base + ctx[i] * prices.plain_kv;

        given_ns += ret_ns[i] = put_share(raw, prices.shift, &fraction[i], bins);
    }
    for (uint32_t i = plain; i < n; i++) {
        const uint64_t raw = prices.each + work->rows[i] * prices.row +
                             cost_kv(work->rows[i], ctx[i]) * prices.chunk_kv +
                             work->wanted[i] * prices.wanted;

        given_ns += ret_ns[i] = put_share(raw, prices.shift, &fraction[i], bins);
    }
    /* Below one a sequence, unless prices were so low that rounding took most of them. */
    for (; total_ns - given_ns >= n; given_ns += n)
        for (uint32_t i = 0; i < n; i++)
            ret_ns[i]++;
    give_to_largest(n, (uint32_t)(total_ns - given_ns), scratch, bins, ret_ns);
}
