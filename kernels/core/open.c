/* open.c: from options to an engine: what is allowed, how much is allocated, what it is called. */
#include "kernels/core/core.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/model/model.h"
#include "kernels/ref/ref_device.h"
#include "kernels/sim/sim.h"

enum { BLOCK = DEVICE_BLOCK_TOKENS, SEQUENCES_MAX = 4096, ROWS_MAX = 65536 };
enum { SLOTS_PER_SEQUENCE = 2, PATIENCE_PER_SEQUENCE = 4 };
enum { WAITING_MAX = 1 << 24, CONTEXT_MAX = 1 << 24 };
#define KV_BYTES_DEFAULT (1ull << 30)
#define BLOCKS_MAX       (1u << 31)

const struct device_ops *const device_table[] = {
    &ref_device,      &cpu_device,        &cpu_avx512_device,
    &cpu_avx2_device, &cpu_scalar_device, &cuda_device,
    &cuda_emu_device, &sim_device,        NULL,
};

static const struct device_ops *named(const char *name)
{
    for (int i = 0; name != NULL && device_table[i] != NULL; i++)
        if (strcmp(device_table[i]->name, name) == 0)
            return device_table[i];
    return NULL;
}

static enum err unknown_device(const char *name)
{
    struct buffer known = {0};
    enum err rc;

    for (int i = 0; device_table[i] != NULL; i++)
        buffer_printf(&known, "%s%s", i > 0 ? ", " : "", device_table[i]->name);
    rc = fail(ERR_SETTINGS, "there is no backend \"%s\"; this build has %s",
              name != NULL ? name : "", known.data);
    buffer_release(&known);
    return rc;
}

/* The device of that name, or what runs in its place where this machine does not have it. */
static enum err find_device(const char *name, const struct device_ops **ret)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    const struct device_ops *ops = named(name);
    const char *why = NULL;

    if (ops == NULL)
        return unknown_device(name);
    *ret = ops;
    if (ops->usable == NULL || ops->usable(&why))
        return ERR_OK;
    *ret = named(ops->otherwise);
    if (*ret == NULL)
        return fail(ERR_SETTINGS, "backend \"%s\" cannot run here: %s", ops->name, why);
    if (!atomic_flag_test_and_set(&said))
        log_warn("backend.absent", "backend=%s instead=%s why=\"%s\"", ops->name, ops->otherwise,
                 why);
    return ERR_OK;
}

static enum err check_options(const struct engine_options *options)
{
    if (options->sequences_max < 1 || options->sequences_max > SEQUENCES_MAX)
        return fail(ERR_SETTINGS, "sequences_max is %u, allowed are 1 to %d",
                    options->sequences_max, SEQUENCES_MAX);
    if (options->rows_max < options->sequences_max || options->rows_max > ROWS_MAX)
        return fail(ERR_SETTINGS, "rows_max is %u, allowed are sequences_max (%u) to %d",
                    options->rows_max, options->sequences_max, ROWS_MAX);
    if (options->waiting_max < 1 || options->waiting_max > WAITING_MAX)
        return fail(ERR_SETTINGS, "waiting_max is %u, allowed are 1 to %d", options->waiting_max,
                    WAITING_MAX);
    if (options->context_max > CONTEXT_MAX)
        return fail(ERR_SETTINGS, "context_max is %u, allowed are up to %d", options->context_max,
                    CONTEXT_MAX);
    return ERR_OK;
}

/* The KV pool asked for, or as much as all sequences could use within the default. */
static enum err size_pool(const struct device_ops *ops, const struct model *model,
                          const struct engine_options *options, struct device_limits *limits)
{
    const uint64_t each = (limits->context_max + BLOCK - 1) / BLOCK;
    uint64_t blocks = options->kv_tokens / BLOCK, room = KV_BYTES_DEFAULT;
    struct engine_plan one;
    enum err rc;

    limits->blocks = 1;
    rc = ops->plan(model, limits, &one);
    if (rc)
        return rc;
    if (options->kv_tokens == 0) {
        if (ops->kv_room != NULL)
            rc = ops->kv_room(model, limits, &room);
        if (rc)
            return rc;
        blocks = room / (one.kv_bytes > 0 ? one.kv_bytes : 1);
        if (blocks > options->sequences_max * each)
            blocks = options->sequences_max * each;
    }
    if (blocks > BLOCKS_MAX)
        return fail(ERR_SETTINGS, "kv_tokens is %" PRIu64 ", allowed are up to %" PRIu64,
                    options->kv_tokens, (uint64_t)BLOCKS_MAX * BLOCK);
    if (one.kv_bytes > 0 && blocks > (UINT64_MAX >> 1) / one.kv_bytes)
        return fail(ERR_SETTINGS,
                    "a KV pool of %" PRIu64 " tokens of this model has more bytes than can be "
                    "counted: lower kv_tokens",
                    blocks * BLOCK);
    if (blocks < each && (options->context_max != 0 || blocks == 0))
        return fail(ERR_SETTINGS,
                    "the KV pool holds %" PRIu64 " tokens, less than one context of "
                    "%u: raise kv_tokens or lower context_max",
                    blocks * BLOCK, limits->context_max);
    if (blocks < each)
        limits->context_max = (uint32_t)blocks * BLOCK;
    limits->blocks = (uint32_t)blocks;
    return ERR_OK;
}

static enum err set_limits(const struct device_ops *ops, const struct model *model,
                           const struct engine_options *options, struct device_limits *ret)
{
    const uint32_t native = model != NULL ? model->hyper.context : SIM_CONTEXT_MAX;

    if (model != NULL && options->context_max > native)
        log_warn("model.context", "context_max=%u trained=%u", options->context_max, native);
    *ret = (struct device_limits){
        .rows_max = options->rows_max,
        .sequences_max = SLOTS_PER_SEQUENCE * options->sequences_max,
        .context_max = options->context_max > 0 ? options->context_max : native,
        .threads = options->threads,
        .kv = options->kv,
        .weights = options->weights,
        .gpu = options->gpu,
    };
    return size_pool(ops, model, options, ret);
}

/* The model and what follows from it; *ret_model stays NULL for a device that needs none. */
static enum err prepare(const struct device_ops *ops, const struct engine_options *options,
                        struct model **ret_model, struct device_limits *ret_limits)
{
    enum err rc = check_options(options);

    if (rc == ERR_OK && ops->needs_model && options->model_path == NULL)
        rc = fail(ERR_SETTINGS, "backend \"%s\" needs a model file", ops->name);
    if (rc == ERR_OK && ops->needs_model)
        rc = model_open(options->model_path, ret_model);
    if (rc == ERR_OK)
        rc = set_limits(ops, *ret_model, options, ret_limits);
    return rc;
}

enum err engine_plan(const struct engine_options *options, struct engine_plan *ret)
{
    const struct device_ops *ops;
    struct device_limits limits;
    struct model *model = NULL;
    enum err rc = find_device(options->backend, &ops);

    if (rc == ERR_OK)
        rc = prepare(ops, options, &model, &limits);
    if (rc == ERR_OK)
        rc = ops->plan(model, &limits, ret);
    model_close(model);
    return rc;
}

void pieces_init(struct pieces *pieces, const struct tokenizer *tokenizer)
{
    const uint32_t vocab = tokenizer_vocab(tokenizer);
    struct buffer bytes = {0};

    pieces->at = xcalloc((size_t)vocab + 1, sizeof(*pieces->at));
    pieces->ends = xcalloc(vocab, 1);
    for (uint32_t id = 0; id < vocab; id++) {
        const struct slice piece = tokenizer_piece(tokenizer, id);

        pieces->at[id] = (uint32_t)bytes.len;
        pieces->ends[id] = tokenizer_is_end(tokenizer, id);
        if (piece.len > pieces->longest)
            pieces->longest = (uint32_t)piece.len;
        buffer_add(&bytes, piece.data, piece.len);
    }
    pieces->at[vocab] = (uint32_t)bytes.len;
    memset(buffer_reserve(&bytes, PIECE_PAD), 0, PIECE_PAD);
    pieces->bytes = buffer_detach(&bytes);
}

void pieces_release(struct pieces *pieces)
{
    free(pieces->bytes);
    free(pieces->at);
    free(pieces->ends);
    *pieces = (struct pieces){0};
}

/* The simulated model: named by what decides its tokens, not by its speed. */
static void describe_sim(const struct engine_options *options, struct engine_model *about)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "sim eos_per_million=%u", options->sim.eos_per_million);

    snprintf(about->name, sizeof(about->name), "sim");
    snprintf(about->chat_format, sizeof(about->chat_format), "plain");
    SHA256((const unsigned char *)text, (size_t)len, about->digest);
    about->vocab = SIM_VOCAB;
    about->embedding_len = SIM_EMBEDDING_LEN;
}

/* The model's name, digest and tokenizer. */
static enum err describe(struct engine *engine, const struct engine_options *options)
{
    if (engine->model == NULL) {
        engine->tokenizer = tokenizer_new_bytes();
        describe_sim(options, &engine->about);
        return ERR_OK;
    }
    engine->tokenizer = engine->model->tokenizer;
    model_describe(engine->model, &engine->about);
    return model_digest(engine->model, options->model_sha256, engine->about.digest);
}

/* A device that says nothing takes as long for the one as for the other. */
static void set_weights(struct engine *engine)
{
    const struct device *device = engine->device;
    const bool silent = device->decode_weight == 0 && device->chunk_weight == 0;

    engine->decode_weight = silent ? 1 : device->decode_weight;
    engine->chunk_weight = silent ? 1 : device->chunk_weight;
}

/* What must be equal for two engines to give equal tokens. */
static void set_numerics(struct engine *engine)
{
    struct engine_model *about = &engine->about;
    struct buffer id = {0};

    snprintf(about->numerics_text, sizeof(about->numerics_text), "%s",
             engine->ops->numerics(engine->device));
    buffer_add(&id, about->digest, sizeof(about->digest));
    buffer_add_text(&id, about->numerics_text);
    buffer_add_text(&id, " " MSERVE_VERSION);
    SHA256((const unsigned char *)id.data, id.len, about->numerics);
    buffer_release(&id);
}

static void allocate(struct engine *engine, const struct engine_options *options,
                     const struct device_limits *limits)
{
    const uint32_t slots = limits->sequences_max;

    engine->sequences_max = options->sequences_max;
    engine->waiting_max = options->waiting_max;
    engine->rows_max = options->rows_max;
    engine->slots_len = slots;
    tags_init(&engine->tags, 2 * slots + options->waiting_max + options->sequences_max);
    waiting_init(&engine->waiting, PATIENCE_PER_SEQUENCE * options->sequences_max);
    engine->run = xcalloc(slots, sizeof(struct sequence *));
    engine->prefills = xcalloc(slots, sizeof(struct sequence *));
    engine->free_slots = xcalloc(slots, sizeof(uint32_t));
    engine->slot_blocks = xcalloc(slots, sizeof(uint32_t));
    engine->slot_leaving = xcalloc(slots, sizeof(bool));
    engine->share_ns = xcalloc(slots, sizeof(uint64_t));
    for (uint32_t i = 0; i < slots; i++)
        engine->free_slots[engine->free_slots_len++] = slots - 1 - i;
    for (int i = 0; i < DEVICE_STEPS; i++) {
        engine->flights[i].sequence = xcalloc(slots + FLIGHT_PAD, sizeof(struct sequence *));
        for (uint32_t j = 0; j < slots + FLIGHT_PAD; j++)
            engine->flights[i].sequence[j] = &engine->dropped;
        engine->flights[i].wanted = xcalloc(slots, 1);
        engine->flights[i].common = xcalloc(slots, 1);
    }
    engine->forecasts = true;
    engine->dropped.flags = SEQUENCE_DROPPED;
    kv_init(&engine->kv, limits->blocks);
    groups_init(&engine->groups);
    prefix_init(&engine->prefix, &engine->kv, &engine->groups);
    cost_scratch_init(&engine->scratch, slots);
}

/* Aligned, as the sequence in it wants. */
static struct engine *new_engine(void)
{
    struct engine *engine = aligned_alloc(_Alignof(struct engine), sizeof(*engine));

    if (engine == NULL)
        engine = xmalloc(SIZE_MAX); /* logs and ends */
    return memset(engine, 0, sizeof(*engine));
}

enum err core_open(const struct engine_options *options, const struct device_ops *ops,
                   struct engine **ret)
{
    struct engine *engine = new_engine();
    struct device_limits limits;
    enum err rc;

    engine->ops = ops;
    engine->began_ns = ops->clock_ns(NULL);
    rc = prepare(ops, options, &engine->model, &limits);
    if (rc)
        goto done;
    rc = describe(engine, options);
    if (rc)
        goto done;
    rc = ops->open(engine->model, options, &limits, &engine->device);
    if (rc)
        goto done;
    engine->slots = ops->slots(engine->device);
    engine->about.context_max = limits.context_max;
    set_weights(engine);
    set_numerics(engine);
    pieces_init(&engine->pieces, engine->tokenizer);
    allocate(engine, options, &limits);
    engine->cut_ns = ops->clock_ns(engine->device);
    engine->books.overhead_ns = engine->cut_ns - engine->began_ns;
    *ret = engine;
    engine = NULL;
done:
    engine_close(engine);
    return rc;
}

enum err engine_open(const struct engine_options *options, struct engine **ret)
{
    const struct device_ops *ops;
    enum err rc = find_device(options->backend, &ops);

    return rc ? rc : core_open(options, ops, ret);
}

void engine_close(struct engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->device != NULL)
        engine->ops->close(engine->device);
    if (engine->model == NULL)
        tokenizer_free(engine->tokenizer);
    model_close(engine->model);
    pieces_release(&engine->pieces);
    sequence_pool_release(&engine->pool);
    tags_release(&engine->tags);
    waiting_release(&engine->waiting);
    prefix_release(&engine->prefix);
    groups_release(&engine->groups);
    kv_release(&engine->kv);
    cost_scratch_release(&engine->scratch);
    for (int i = 0; i < DEVICE_STEPS; i++) {
        free(engine->flights[i].sequence);
        free(engine->flights[i].wanted);
        free(engine->flights[i].common);
    }
    free(engine->run);
    free(engine->prefills);
    free(engine->free_slots);
    free(engine->slot_blocks);
    free(engine->slot_leaving);
    free(engine->share_ns);
    free(engine);
}
