/* sim.c: all work is done when it is enqueued; done() only waits for the clock on the wall. */
#include "kernels/sim/sim.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/log.h"
#include "kernels/step.h"

enum { BLOCK = DEVICE_BLOCK_TOKENS, STRIDE = 64, EATEN_BYTES = 1 << 20 };

/* Odd numbers with about as many ones as zeros. */
#define MIX_A 0x9e6c63d0876a3f15ull
#define MIX_B 0xc2b2ae3d27d4eb4full
#define MIX_C 0xd6e8feb86659fd93ull
#define START 0x6a09e667f3bcc908ull /* what stands before position 0 */

/* What text is made of, by six bits of the hash: blanks as often as in prose. */
static const char alphabet[65] = "aabbccdddeeeeeefghhhiiijklllmnnnnooopqrrrssstttuuvwxyz         .";

struct sim_step {
    struct step step;
    struct sampled sampled; /* none is ever bad */
    uint64_t *row_hash;     /* [R] */
    uint64_t begin_ns;
    uint64_t part_ns[PART_COUNT];
    uint64_t due_ns; /* on the wall */
};

struct sim {
    struct device device;
    struct sim_options options;
    struct slots slots;
    struct sim_step steps[DEVICE_STEPS];
    uint64_t *kv;         /* [blocks][BLOCK] hash of a position and all before it */
    uint32_t *last;       /* [slot] token sampled last */
    uint64_t *pool;       /* [slot] sum of hashes */
    uint64_t *key;        /* [slot] of what is drawn: from its sampling, when it reads */
    uint64_t *at[STRIDE]; /* scratch: KV of the rows in hand */
    uint64_t clock_ns;    /* end of the step enqueued last */
    uint64_t wall_due_ns; /* when that is on the wall */
    bool failed;          /* it met fail_token */
};

static struct sim *sim_of(struct device *device)
{
    return (struct sim *)(void *)device;
}

static uint64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t wall)
{
    const struct timespec until = {(time_t)(wall / 1000000000u), (long)(wall % 1000000000u)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* The next `ns` of the device take so long on the wall; returns when they are over. */
static uint64_t pace(struct sim *sim, uint64_t ns)
{
    uint64_t now;

    if (sim->options.pace <= 0)
        return 0;
    now = wall_ns();
    if (sim->wall_due_ns < now)
        sim->wall_due_ns = now;
    sim->wall_due_ns += (uint64_t)((double)ns * sim->options.pace);
    return sim->wall_due_ns;
}

static enum err check(const struct sim_options *options)
{
    const uint64_t second = 1000000000u;

    if (options->load_ns > 86400 * second || options->fixed_ns > 3600 * second ||
        options->row_ns > second || options->kv_ns > second || options->chunk_kv_ns > second ||
        options->head_ns > second)
        return fail(ERR_SETTINGS, "sim: load_ns is at most a day, fixed_ns an hour, and row_ns, "
                                  "kv_ns, chunk_kv_ns and head_ns a second");
    if (!(options->pace >= 0 && options->pace <= 1000))
        return fail(ERR_SETTINGS, "sim: pace is from 0 to 1000");
    if (options->eos_per_million > 1000000)
        return fail(ERR_SETTINGS, "sim: eos_per_million is at most 1000000");
    return ERR_OK;
}

static enum err sim_plan(const struct model *model, const struct device_limits *limits,
                         struct engine_plan *ret)
{
    const uint64_t per_step =
        step_bytes(limits, SIM_EMBEDDING_LEN) + limits->rows_max * sizeof(uint64_t);

    (void)model;
    ret->weight_bytes = 0;
    ret->kv_bytes = (uint64_t)limits->blocks * BLOCK * sizeof(uint64_t);
    ret->activation_bytes = DEVICE_STEPS * per_step;
    ret->kv_tokens = (uint64_t)limits->blocks * BLOCK;
    ret->context_max = limits->context_max;
    return ERR_OK;
}

/* In 16 bits, and what is not free does not become so. */
static uint16_t weight_of(uint64_t ns, unsigned shift)
{
    return ns >> shift == 0 && ns > 0 ? 1 : (uint16_t)(ns >> shift);
}

static void set_weights(struct device *device, uint64_t kv_ns, uint64_t chunk_kv_ns)
{
    const uint64_t most_ns = kv_ns > chunk_kv_ns ? kv_ns : chunk_kv_ns;
    unsigned shift = 0;

    while (most_ns >> shift > UINT16_MAX)
        shift++;
    device->decode_weight = weight_of(kv_ns, shift);
    device->chunk_weight = weight_of(chunk_kv_ns, shift);
}

static void set_prices(struct sim *sim, const struct sim_options *options)
{
    sim->options = *options;
    if (options->chunk_kv_ns == 0)
        sim->options.chunk_kv_ns = options->kv_ns;
    else if (options->chunk_kv_ns != options->kv_ns)
        set_weights(&sim->device, options->kv_ns, options->chunk_kv_ns);
}

static enum err sim_open(const struct model *model, const struct engine_options *options,
                         const struct device_limits *limits, struct device **ret)
{
    const uint32_t sequences = limits->sequences_max;
    enum err rc = check(&options->sim);
    struct sim *sim;

    (void)model;
    if (rc)
        return rc;
    sim = xcalloc(1, sizeof(*sim));
    sim->device.ops = &sim_device;
    set_prices(sim, &options->sim);
    slots_init(&sim->slots, limits);
    sim->kv = xcalloc(limits->blocks, BLOCK * sizeof(uint64_t));
    sim->last = xcalloc(sequences, sizeof(uint32_t));
    sim->pool = xcalloc(sequences, sizeof(uint64_t));
    sim->key = xcalloc(sequences, sizeof(uint64_t));
    for (int i = 0; i < DEVICE_STEPS; i++) {
        step_init(&sim->steps[i].step, limits);
        sampled_init(&sim->steps[i].sampled, limits, SIM_EMBEDDING_LEN);
        sim->steps[i].row_hash = xcalloc(limits->rows_max, sizeof(uint64_t));
    }
    sim->clock_ns = options->sim.load_ns;
    if (sim->options.pace > 0)
        sleep_until(pace(sim, options->sim.load_ns));
    *ret = &sim->device;
    return ERR_OK;
}

static void sim_close(struct device *device)
{
    struct sim *sim = sim_of(device);

    if (sim == NULL)
        return;
    for (int i = 0; i < DEVICE_STEPS; i++) {
        step_release(&sim->steps[i].step);
        sampled_release(&sim->steps[i].sampled);
        free(sim->steps[i].row_hash);
    }
    slots_release(&sim->slots);
    free(sim->kv);
    free(sim->last);
    free(sim->pool);
    free(sim->key);
    free(sim);
}

static struct slots *sim_slots(struct device *device)
{
    return &sim_of(device)->slots;
}

static struct step *sim_begin(struct device *device, unsigned slot)
{
    return &sim_of(device)->steps[slot].step;
}

/* Five cycles a row: a multiplication carries low bits up, the rotation brings high ones down. */
static inline uint64_t chain(uint64_t before, uint32_t token, uint32_t position)
{
    const uint64_t mixed = (before ^ ((uint64_t)position << 32 | token)) * MIX_A;

    return mixed << 32 | mixed >> 32;
}

/* Greedy choices follow from the ids alone. */
static uint64_t key_of(const struct engine_sampling *sampling)
{
    if (sampling->temperature <= 0)
        return 0;
    return (sampling->seed * MIX_B) ^ (sampling->choice * MIX_C) ^ START;
}

/* Tests want workers that die of a request: of what its prompt holds, so that it is always the same. */
static void meet_poison(struct sim *sim, uint32_t token)
{
    const struct timespec for_ever = {.tv_sec = 1000000};
    const struct sim_options *options = &sim->options;

    if (token == options->fail_token)
        sim->failed = true;

    if (token == options->abort_token)
        abort();
    while (token == options->hang_token)
        nanosleep(&for_ever, NULL);
    while (token == options->eat_token)
        memset(xmalloc(EATEN_BYTES), 1, EATEN_BYTES);
}

static void look_for_poison(struct sim *sim, const int32_t *token, uint32_t rows)
{
    const struct sim_options *options = &sim->options;

    if (!options->abort_token && !options->hang_token && !options->eat_token &&
        !options->fail_token)
        return;
    for (uint32_t row = 0; row < rows; row++)
        if (token[row] > 0)
            meet_poison(sim, (uint32_t)token[row]);
}

/* Rows of one sequence, block by block. Returns the KV tokens that its attention touches. */
static uint64_t run_sequence(struct sim *sim, struct sim_step *step, uint32_t seq)
{
    const uint32_t slot = step->step.seq_slot[seq], rows = step->step.seq_rows[seq];
    const uint32_t ctx = step->step.seq_ctx[seq];
    const uint32_t *blocks = sim->slots.blocks + (size_t)slot * sim->slots.blocks_stride;
    const int32_t *token = step->step.token + step->step.seq_row[seq];
    uint64_t *row_hash = step->row_hash + step->step.seq_row[seq];
    uint64_t hash = START, sum = 0;

    look_for_poison(sim, token, rows);
    sim->key[slot] = key_of(&sim->slots.sampling[slot]);
    if (ctx > 0)
        hash = sim->kv[(size_t)blocks[(ctx - 1) / BLOCK] * BLOCK + (ctx - 1) % BLOCK];
    for (uint32_t row = 0; row < rows;) {
        const uint32_t at = (ctx + row) % BLOCK;
        const uint32_t end = rows - row < BLOCK - at ? rows : row + BLOCK - at;
        uint64_t *kv = sim->kv + (size_t)blocks[(ctx + row) / BLOCK] * BLOCK + at;

        for (; row < end; row++) {
            const int32_t id = token[row];

            hash = chain(hash, id >= 0 ? (uint32_t)id : sim->last[slot], ctx + row);
            row_hash[row] = *kv++ = hash;
            sum += hash;
        }
    }
    if (sim->slots.pool[slot])
        sim->pool[slot] = (ctx == 0 ? 0 : sim->pool[slot]) + sum;
    return (uint64_t)rows * ctx + (uint64_t)rows * ((uint64_t)rows + 1) / 2;
}

/*
 * The next `len` decodes from `from` on, at most STRIDE. First where their KV lies, then what
 * stands there, so that the memory is on its way when it is wanted. Returns the KV tokens they
 * touch.
 */
static uint64_t run_decodes(struct sim *sim, const struct sim_step *step, uint32_t from,
                            uint32_t len)
{
    const uint32_t *slot = step->step.seq_slot + from, *ctx = step->step.seq_ctx + from;
    const uint32_t *blocks = sim->slots.blocks, *last = sim->last;
    const size_t blocks_stride = sim->slots.blocks_stride;
    uint64_t **at = sim->at, *kv = sim->kv, *row_hash = step->row_hash + from, touched = len;

    for (uint32_t i = 0; i < len; i++) {
        const uint32_t block = blocks[slot[i] * blocks_stride + ctx[i] / BLOCK];

        at[i] = &kv[(size_t)block * BLOCK + ctx[i] % BLOCK];
        __builtin_prefetch(at[i], 1);
        touched += ctx[i];
    }
    for (uint32_t i = 0; i < len; i++) {
        const uint32_t position = ctx[i];
        uint64_t hash;

        if (position % BLOCK > 0)
            hash = at[i][-1];
        else /* the one before stands at the end of another block */
            hash = kv[(size_t)blocks[slot[i] * blocks_stride + position / BLOCK - 1] * BLOCK +
                      BLOCK - 1];
        *at[i] = row_hash[i] = chain(hash, last[slot[i]], position);
    }
    return touched;
}

static void sim_forward(struct device *device, unsigned slot)
{
    struct sim *sim = sim_of(device);
    struct sim_step *step = &sim->steps[slot];
    const struct step *plan = &step->step;
    uint64_t kv = 0, chunk_kv = 0;

    for (uint32_t seq = 0; seq < plan->decodes; seq += STRIDE)
        kv += run_decodes(sim, step, seq,
                          plan->decodes - seq < STRIDE ? plan->decodes - seq : STRIDE);
    for (uint32_t seq = plan->decodes; seq < plan->sequences; seq++)
        chunk_kv += run_sequence(sim, step, seq);
    step->part_ns[PART_FIXED] = sim->options.fixed_ns;
    step->part_ns[PART_LINEAR] = plan->rows * sim->options.row_ns;
    step->part_ns[PART_ATTENTION] =
        (kv * sim->options.kv_ns + chunk_kv * sim->options.chunk_kv_ns) / 1024;
}

static void embed(const struct sim *sim, uint32_t slot, float *embedding)
{
    double norm = 0;

    for (uint32_t i = 0; i < SIM_EMBEDDING_LEN; i++) {
        const uint64_t mixed = chain(sim->pool[slot], i, 0) * MIX_B;

        embedding[i] = (float)(mixed >> 40) / (float)(1 << 23) - 1.0f;
        norm += (double)embedding[i] * (double)embedding[i];
    }
    for (uint32_t i = 0; i < SIM_EMBEDDING_LEN; i++)
        embedding[i] = (float)(embedding[i] / sqrt(norm));
}

static inline uint32_t draw(uint64_t hash, uint64_t key, uint64_t end_below)
{
    uint64_t mixed = (hash ^ key) * MIX_C;

    mixed ^= mixed >> 29;
    mixed *= MIX_B;
    if (mixed >> 32 < end_below)
        return SIM_END;
    return (uint8_t)alphabet[mixed >> 20 & 63];
}

/* Of the wanted rows of slots that ask for it. */
static void make_logprobs(const struct sim *sim, struct sim_step *step)
{
    const struct step *plan = &step->step;
    const uint8_t *logprobs = sim->slots.logprobs;

    for (uint32_t want = 0; want < plan->wanted; want++) {
        const uint32_t at = plan->seq_slot[plan->want_seq[want]];

        if (logprobs[at])
            step->sampled.logprob[want] =
                -(float)(((step->row_hash[plan->want_row[want]] ^ sim->key[at]) * MIX_A) >> 40) /
                (float)(1 << 22);
    }
}

static void sim_sample(struct device *device, unsigned slot)
{
    struct sim *sim = sim_of(device);
    struct sim_step *step = &sim->steps[slot];
    const struct step *plan = &step->step;
    const uint64_t end_below = ((uint64_t)sim->options.eos_per_million << 32) / 1000000;
    const uint64_t *row_hash = step->row_hash, *key = sim->key;
    const uint32_t *seq_slot = plan->seq_slot, decodes = plan->decodes;
    uint32_t *token = step->sampled.token, *last = sim->last;

    for (uint32_t i = 0; i < decodes; i++) {
        const uint32_t at = seq_slot[i];

        token[i] = last[at] = draw(row_hash[i], key[at], end_below);
    }
    for (uint32_t want = decodes; want < plan->wanted; want++) {
        const uint32_t at = seq_slot[plan->want_seq[want]];

        if (sim->slots.pool[at]) {
            token[want] = 0;
            embed(sim, at, step->sampled.embedding + (size_t)want * SIM_EMBEDDING_LEN);
        } else {
            token[want] = last[at] = draw(row_hash[plan->want_row[want]], key[at], end_below);
        }
    }
    make_logprobs(sim, step);
    step->part_ns[PART_HEAD] = plan->wanted * sim->options.head_ns;
    step->begin_ns = sim->clock_ns;
    for (int part = 0; part < PART_COUNT; part++)
        sim->clock_ns += step->part_ns[part];
    step->due_ns = pace(sim, sim->clock_ns - step->begin_ns);
}

static enum err sim_done(struct device *device, unsigned slot, int timeout_ms,
                         struct step_result *ret)
{
    struct sim *sim = sim_of(device);
    const struct sim_step *step = &sim->steps[slot];

    if (sim->failed)
        return fail(ERR_DEVICE, "the simulated device failed, as sim.fail_token wants it");
    if (sim->options.pace > 0) {
        const uint64_t now = wall_ns(), patience_ns = (uint64_t)timeout_ms * 1000000u;

        if (now < step->due_ns && timeout_ms >= 0 && step->due_ns - now > patience_ns) {
            sleep_until(now + patience_ns);
            return ERR_AGAIN;
        }
        if (now < step->due_ns)
            sleep_until(step->due_ns);
    }
    ret->token = step->sampled.token;
    ret->embedding = step->sampled.embedding;
    ret->logprob = step->sampled.logprob;
    ret->bad = step->sampled.bad;
    ret->begin_ns = ret->end_ns = step->begin_ns;
    for (int part = 0; part < PART_COUNT; part++)
        ret->end_ns += ret->part_ns[part] = step->part_ns[part];
    return ERR_OK;
}

static uint64_t sim_clock_ns(const struct device *device)
{
    return device == NULL ? 0 : ((const struct sim *)(const void *)device)->clock_ns;
}

static const char *sim_numerics(const struct device *device)
{
    (void)device;
    return "sim/hash/1";
}

const struct device_ops sim_device = {
    .name = "sim",
    .plan = sim_plan,
    .open = sim_open,
    .close = sim_close,
    .slots = sim_slots,
    .begin = sim_begin,
    .forward = sim_forward,
    .sample = sim_sample,
    .done = sim_done,
    .clock_ns = sim_clock_ns,
    .numerics = sim_numerics,
};
