/*
 * sample.cu: one token from each row of logits, as kernels/sample.h says it, without sorting:
 * weights become whole numbers (sample_row.cuh), so that every sum is exact and threads may add in
 * any order.
 *
 * min_p, top_k and top_p each keep the beginning of one order (the heaviest first, the lowest id
 * first among equals), so what is kept is a weight and the last id that goes with it. The weight is
 * found by counting: weights by their exponent and the first 5 bits of the mantissa, then those
 * that agree in these by the next 9 bits, and by the last 9; it ends early where all that is
 * counted together is kept.
 */
#include "kernels/cuda/table.cuh"

#include "kernels/cuda/sample_row.cuh"
#include "kernels/cuda/sample_sum.cuh"
#include "kernels/philox.h"

static constexpr uint32_t MANY = WARPS_MAX * 32, FEW = 128, FEW_VOCAB = 8192; /* threads */

static constexpr uint32_t COARSE_SHIFT = 18, COARSE = ((ONE - LEAST) >> COARSE_SHIFT) + 1;
static constexpr uint32_t FINE_BITS = 9, FINE = 1u << FINE_BITS;
static constexpr uint32_t PART_BITS = 12; /* a bin's mass is added up in two words */

/* The weights of one kind, counted: bin b holds those with bits >> shift == base + b. */
struct bins {
    uint32_t *count, *low, *high; /* mass = (high << 12) + low, times 2^(exponent - WHOLE) if > 1 */
    uint32_t len, base, shift;
    bool by_mass; /* what amount() says of a bin: its mass, or how many they are */
};

/* The block's shared memory. */
struct desk {
    uint64_t sum[2][WARPS_MAX];
    uint32_t coarse[3][COARSE], fine[3][FINE];
};

/* ---- tokens as items: a quad is one, worth the masses of its tokens ---- */

struct tokens {
    const struct field *field;
    uint32_t tie; /* 0; or: worth how many weigh this much */
};

struct adder {
    const struct tokens *tokens;
    uint64_t sum;
};

DEVICE uint64_t worth(const struct tokens *tokens, uint32_t id, float logit)
{
    uint32_t bits = weight_of(tokens->field, id, logit);

    if (tokens->tie != 0)
        return bits == tokens->tie ? 1 : 0;
    return mass_of(bits);
}

DEVICE void see(struct adder *adder, uint32_t id, float logit)
{
    adder->sum += worth(adder->tokens, id, logit);
}

DEVICE uint64_t lane_sum(const struct tokens *tokens, uint32_t begin, uint32_t end, uint32_t lane)
{
    struct adder adder = {tokens, 0};

    walk<2>(tokens->field, begin + lane, end, 32, &adder);
    return adder.sum;
}

struct picker {
    const struct tokens *tokens;
    uint64_t sum, target;
    uint32_t id;
};

DEVICE void see(struct picker *picker, uint32_t id, float logit)
{
    uint64_t more = worth(picker->tokens, id, logit);

    if (picker->sum <= picker->target && more > 0)
        picker->id = id;
    picker->sum += more;
}

/* The id up to which the running sum of kept tokens' worth is above `target`. */
DEVICE uint32_t token_at(struct team *team, const struct tokens *tokens, uint64_t target)
{
    struct spot spot = find(team, tokens, 0, tokens->field->quads, target);
    struct picker picker = {tokens, spot.before, target, 0};

    visit(tokens->field, spot.item, load(tokens->field, spot.item), &picker);
    return picker.id;
}

/* ---- bins as items, the heaviest first ---- */

DEVICE uint64_t bin_mass(const struct bins *bins, uint32_t item)
{
    uint32_t bin = bins->len - 1 - item;
    uint32_t exponent = ((bins->base + bin) << bins->shift) >> 23;
    uint64_t mass = (static_cast<uint64_t>(bins->high[bin]) << PART_BITS) + bins->low[bin];

    return exponent > WHOLE ? mass << (exponent - WHOLE) : mass;
}

DEVICE uint64_t amount(const struct bins *bins, uint32_t item)
{
    return bins->by_mass ? bin_mass(bins, item) : bins->count[bins->len - 1 - item];
}

DEVICE uint64_t lane_sum(const struct bins *bins, uint32_t begin, uint32_t end, uint32_t lane)
{
    uint64_t sum = 0;

    for (uint32_t item = begin + lane; item < end; item += 32)
        sum += amount(bins, item);
    return sum;
}

struct counter {
    const struct field *field;
    struct bins bins;
};

DEVICE void see(struct counter *counter, uint32_t id, float logit)
{
    uint32_t bits = weight_of(counter->field, id, logit);
    uint32_t bin = (bits >> counter->bins.shift) - counter->bins.base;
    uint32_t exponent = bits >> 23;
    uint32_t part = (bits & 0x7fffffu) | 0x800000u;

    if (bits == 0 || bin >= counter->bins.len)
        return;
    part = exponent < WHOLE ? part >> (WHOLE - exponent) : part;
    shared_add(&counter->bins.count[bin], 1u);
    shared_add(&counter->bins.low[bin], part & ((1u << PART_BITS) - 1));
    shared_add(&counter->bins.high[bin], part >> PART_BITS);
}

/*
 * Fills the bins from all tokens that are kept. Words of 32 bits: at most 2^20 tokens, 12 bits
 * each.
 */
DEVICE void count_up(const struct field *field, const struct bins *bins)
{
    struct counter counter = {field, *bins};

    block_sync(); /* nobody reads what they held before */
    for (uint32_t bin = threadIdx.x; bin < bins->len; bin += blockDim.x)
        bins->count[bin] = bins->low[bin] = bins->high[bin] = 0;
    block_sync();
    walk<2>(field, threadIdx.x, field->quads, blockDim.x, &counter);
    block_sync();
}

/* The mass of the bins before `item`. */
DEVICE uint64_t mass_before(struct team *team, const struct bins *bins, uint32_t item)
{
    uint64_t sum = 0;

    for (uint32_t at = threadIdx.x; at < item; at += blockDim.x)
        sum += bin_mass(bins, at);
    return add_up(team, sum);
}

/*
 * Keeps the fewest heaviest whose running sum is above `target`: of their masses, or of ones when
 * !by_mass; then *mass is theirs. `bins` are the coarse ones, filled before anything was cut.
 */
DEVICE void cut(struct team *team, struct field *field, struct bins bins, uint64_t target,
                uint64_t *mass)
{
    SHARED(struct desk, desk);
    const bool by_mass = bins.by_mass;
    uint64_t above = 0, taken, inside;
    uint32_t bits, count;

    for (;;) {
        struct spot spot;

        measure(team, &bins, 0, bins.len);
        spot = find(team, &bins, 0, bins.len, target);
        bits = bins.base + bins.len - 1 - spot.item;
        count = bins.count[bins.len - 1 - spot.item];
        inside = bin_mass(&bins, spot.item);
        target -= spot.before;
        if (!by_mass)
            above += mass_before(team, &bins, spot.item);
        if (count <= 1 || target + 1 == amount(&bins, spot.item) || bins.shift == 0)
            break;
        bins.count = desk->fine[0];
        bins.low = desk->fine[1];
        bins.high = desk->fine[2];
        bins.len = FINE;
        bins.base = bits << FINE_BITS;
        bins.shift -= FINE_BITS;
        count_up(field, &bins);
    }
    taken = count;
    if (bins.shift == 0 && count > 1)
        taken = by_mass ? target / mass_of(bits) + 1 : target + 1;
    if (bits << bins.shift > field->least) {
        field->least = bits << bins.shift;
        field->last = UINT32_MAX;
        set_cutoff(field);
    }
    if (taken < count) {
        struct tokens ties = {field, bits};

        measure(team, &ties, 0, field->quads);
        field->last = token_at(team, &ties, taken - 1);
        inside = taken * mass_of(bits);
    }
    *mass = above + inside;
}

/* The sum up to which top_p keeps, less one: reached exactly is enough. */
DEVICE uint64_t top_p_target(float top_p, uint64_t mass)
{
    double want = static_cast<double>(top_p) * static_cast<double>(mass);
    uint64_t target = static_cast<uint64_t>(want);

    return target > 0 && static_cast<double>(target) == want ? target - 1 : target;
}

/* min_p, then top_k, then top_p. */
DEVICE void filter(struct team *team, struct field *field, const struct sample_row *row)
{
    SHARED(struct desk, desk);
    uint32_t(*coarse)[COARSE] = desk->coarse;
    struct bins bins = {coarse[0],    coarse[1], coarse[2], COARSE, LEAST >> COARSE_SHIFT,
                        COARSE_SHIFT, false};
    bool top_k = row->top_k > 0 && row->top_k < field->vocab;
    bool top_p = row->top_p > 0.0f && row->top_p < 1.0f;
    uint64_t mass = 0; /* what top_k left, if it cut */

    if (row->min_p > 0.0f && bits_of(row->min_p) > LEAST)
        field->least = bits_of(row->min_p) < ONE ? bits_of(row->min_p) : ONE;
    set_cutoff(field);
    if (!top_k && !top_p)
        return;
    count_up(field, &bins);
    for (bins.by_mass = !top_k;; bins.by_mass = true) {
        uint64_t all = measure(team, &bins, 0, COARSE);
        uint64_t target = row->top_k - 1;

        if (bins.by_mass)
            target = top_p_target(row->top_p, mass > 0 ? mass : all);
        if (target < all)
            cut(team, field, bins, target, &mass);
        if (bins.by_mass || !top_p)
            return;
    }
}

/* floor(unit / 2^53 * total), for unit < 2^53. */
DEVICE uint64_t part_of(uint64_t total, uint64_t unit)
{
    uint64_t total0 = static_cast<uint32_t>(total), total1 = total >> 32;
    uint64_t unit0 = static_cast<uint32_t>(unit), unit1 = unit >> 32;
    uint64_t low = unit0 * total0;
    uint64_t middle = unit1 * total0 + (low >> 32);
    uint64_t other = unit0 * total1 + static_cast<uint32_t>(middle);
    uint64_t high = unit1 * total1 + (middle >> 32) + (other >> 32);

    return high << 11 | static_cast<uint32_t>(other) >> 21;
}

DEVICE uint32_t draw(struct team *team, struct field *field, const struct sample_row *row)
{
    struct tokens tokens = {field, 0};
    double unit = philox_unit(row->seed, row->position, row->choice, 0);
    uint64_t total;

    filter(team, field, row);
    total = measure(team, &tokens, 0, field->quads);
    return token_at(team, &tokens, part_of(total, static_cast<uint64_t>(unit * 0x1p53)));
}

/* ---- the row as the model gave it, and the highest ---- */

/* Stands in the order of numbers; 0 is below all, the greatest is for what is no number. */
DEVICE uint32_t key_of(float value)
{
    uint32_t bits = bits_of(value + 0.0f); /* -0 becomes 0: they are equal */

    if ((bits & 0x7f800000u) == 0x7f800000u)
        return UINT32_MAX;
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

DEVICE float value_of(uint32_t key)
{
    return float_of(key >> 31 != 0 ? key ^ 0x80000000u : ~key);
}

struct survey {
    const struct field *field;
    uint32_t raw; /* the highest key of the logits */
    uint32_t key; /* of those that may be taken */
    uint32_t id;
};

DEVICE void see(struct survey *survey, uint32_t id, float logit)
{
    uint32_t raw = key_of(logit);
    uint32_t key = raw;

    survey->raw = raw > survey->raw ? raw : survey->raw;
    if (survey->field->seen != NULL)
        key = key_of(penalised(survey->field, id, logit));
    if (key > survey->key && allowed(survey->field, id)) {
        survey->key = key;
        survey->id = id;
    }
}

struct raw_adder {
    float highest;
    uint64_t sum;
};

DEVICE void see(struct raw_adder *adder, uint32_t id, float logit)
{
    (void)id;
    adder->sum += mass_of(bits_of(maths_exp32(logit - adder->highest)));
}

/* ln(e^logit / sum of e^logits): of the logits as they are. */
DEVICE float logprob_of(struct team *team, const struct field *field, float highest, uint32_t id)
{
    struct raw_adder adder = {highest, 0};
    double total, value;

    walk<2>(field, threadIdx.x, field->quads, blockDim.x, &adder);
    total = static_cast<double>(add_up(team, adder.sum)) * 0x1p-43;
    value = static_cast<double>(field->logits[id]) - static_cast<double>(highest);
    if (threadIdx.x != 0)
        return 0.0f;
    value -= maths_log(total);
    return value < 0.0 ? static_cast<float>(value) : 0.0f;
}

DEVICE struct field field_of(const struct sample_args *args, const struct sample_row *row,
                             uint32_t at)
{
    struct field field = {};

    field.logits = args->logits + static_cast<size_t>(at) * args->vocab;
    field.vocab = args->vocab;
    field.skew = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(field.logits) / 4 % 4);
    field.quads = (field.skew + field.vocab + 3) / 4;
    if (args->mask != NULL && row->mask != SAMPLE_NO_MASK)
        field.mask = args->mask + static_cast<size_t>(row->mask) * ((args->vocab + 31) / 32);
    if (args->seen != NULL &&
        (row->presence != 0.0f || row->frequency != 0.0f || row->repetition != 1.0f))
        field.seen = args->seen + static_cast<size_t>(row->slot) * args->vocab;
    field.presence = row->presence;
    field.frequency = row->frequency;
    field.repetition = row->repetition;
    field.temperature = row->temperature;
    field.least = LEAST;
    field.last = UINT32_MAX;
    return field;
}

DEVICE void sample_one(struct team *team, const struct sample_args *args, uint32_t at)
{
    const struct sample_row *row = &args->row[at];
    struct field field = field_of(args, row, at);
    struct survey survey = {&field, 0, 0, 0};
    uint32_t raw, token;
    uint64_t best;
    float logprob = 0.0f;
    bool bad;

    walk<4>(&field, threadIdx.x, field.quads, blockDim.x, &survey);
    raw = static_cast<uint32_t>(greatest(team, survey.raw));
    best = greatest(team, static_cast<uint64_t>(survey.key) << 32 | ~survey.id);
    bad = raw == UINT32_MAX || best >> 32 == 0;
    token = bad ? 0 : ~static_cast<uint32_t>(best);
    field.highest = value_of(static_cast<uint32_t>(best >> 32));
    if (!bad && row->temperature > 0.0f)
        token = draw(team, &field, row);
    if (!bad && (row->flags & SAMPLE_LOGPROB) != 0)
        logprob = logprob_of(team, &field, value_of(raw), token);
    if (threadIdx.x != 0)
        return;
    args->last[row->slot] = token;
    args->token[row->want] = token;
    args->bad[row->want] = bad ? 1 : 0;
    if ((row->flags & SAMPLE_LOGPROB) != 0)
        args->logprob[row->want] = logprob;
}

/*
 * row: [rows]; logits: float [rows][V]; mask: bits [masks][V]; seen: uint16_t [slots][V]; last:
 * [slots]; token, logprob, bad: [wanted].
 *
 * A block does a row, with 512 threads, or 128 for small vocabularies. Bytes moved, in readings of
 * the row's logits (4V bytes, and V / 8 of its mask, 2V of `seen` where it has them): 1 greedy; 2
 * and a fraction sampled, with min_p or without; 1 to 3 more for top_k or top_p, 1 to 5 for both, 1
 * more for ties that are cut; 1 for the log-probability. Speed: not measured, no GPU at hand.
 */
KERNEL(MANY) void sample_block(struct sample_args args)
{
    SHARED(struct desk, desk);
    struct team team = team_of(desk->sum);
    uint32_t rows = *args.rows.len;

    for (uint32_t at = blockIdx.x; at < rows; at += gridDim.x)
        sample_one(&team, &args, at);
}

void launch_sample(struct gpu *gpu, const struct sample_args *args)
{
    uint32_t threads = args->vocab <= FEW_VOCAB ? FEW : MANY;

    LAUNCH(sample_block, threads, gpu, args->rows.most, sizeof(struct desk), *args);
}
