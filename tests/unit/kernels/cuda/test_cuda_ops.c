/*
 * test_cuda_ops.c: each operation of the GPU backend beside the reference's, on the same numbers: what
 * `ref` had before an operation is put onto the card, so that no error is carried on. Then whole
 * passes: logits for each kind of weights and of KV cache.
 */
#include "kernels/cuda/cuda.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/buffer.h"
#include "../drive.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/model/tensor.h"
#include "kernels/ref/ref_device.h"
#include "../naive.h"
#include "ref_look.h"
#include "../tiny_model.h"

enum { VOCAB = TINY_VOCAB, CONTEXT = 96, CHUNK = 37, ROWS = 40 };

static const struct tiny_options grouped = {.seed = 5,
                                            .layers = 2,
                                            .heads = 4,
                                            .kv_heads = 2,
                                            .head_dim = 32,
                                            .key_length = true,
                                            .embed = 64,
                                            .ff = 96,
                                            .rope_freqs = true,
                                            .untied = true};

static const struct tiny_options quantised = {.seed = 6,
                                              .layers = 2,
                                              .heads = 4,
                                              .kv_heads = 1,
                                              .head_dim = 16,
                                              .embed = 64,
                                              .ff = 96,
                                              .type = TENSOR_Q8_0};

static const struct device_limits limits = {
    .rows_max = ROWS, .sequences_max = 4, .context_max = CONTEXT, .blocks = 16, .threads = 1};

/* One of the two backends, and the weights of one layer as it has them. */
struct side {
    const struct ops *ops;
    struct device *device;
    struct backend *backend;
    struct step *step;
    const struct weight *embd, *norm, *final, *qkv, *output, *pair, *down, *head;
};

static void load(struct side *side, unsigned uses, const struct weight **ret,
                 const struct gguf_tensor *a, const struct gguf_tensor *b,
                 const struct gguf_tensor *c)
{
    const struct gguf_tensor *tensors[] = {a, b, c};

    assert_int_equal(side->ops->weight(side->backend, tensors,
                                       c != NULL   ? 3
                                       : b != NULL ? 2
                                                   : 1,
                                       uses, ret),
                     ERR_OK);
}

static void side_open(struct side *side, const struct device_ops *device, const struct ops *ops,
                      const struct model *model)
{
    const struct model_layer *layer = &model->layer[0];
    const struct engine_options options = {.backend = device->name};
    struct slots *slots;

    side->ops = ops;
    assert_int_equal(device->open(model, &options, &limits, &side->device), ERR_OK);
    side->backend = forward_backend(side->device);
    if (ops == &cuda_emu_ops)
        assert_int_equal(loader_open(side->backend), ERR_OK);
    load(side, WEIGHT_EMBED, &side->embd, model->token_embd, NULL, NULL);
    load(side, WEIGHT_GAIN, &side->norm, layer->attn_norm, NULL, NULL);
    load(side, WEIGHT_GAIN | WEIGHT_FINAL, &side->final, model->output_norm, NULL, NULL);
    load(side, WEIGHT_LINEAR, &side->qkv, layer->attn_q, layer->attn_k, layer->attn_v);
    load(side, WEIGHT_LINEAR, &side->output, layer->attn_output, NULL, NULL);
    load(side, WEIGHT_LINEAR, &side->pair, layer->ffn_gate, layer->ffn_up, NULL);
    load(side, WEIGHT_LINEAR, &side->down, layer->ffn_down, NULL, NULL);
    load(side, WEIGHT_LINEAR | WEIGHT_HEAD, &side->head, model->output, NULL, NULL);
    slots = ops->slots(side->backend);
    for (uint32_t i = 0; i < limits.sequences_max * slots->blocks_stride; i++)
        slots->blocks[i] = limits.blocks - 1 - i;
    if (ops == &cuda_emu_ops) {
        loader_close(side->backend);
        side->backend->eager = true;
    }
}

/* A prompt's chunk after `ctx` tokens, and a sequence of one row; all of them wanted. */
static void side_begin(struct side *side, uint32_t ctx, const uint32_t *ids)
{
    struct step *step = side->step = side->ops->begin(side->backend, 0);

    step->sequences = step->wanted = 2;
    step->rows = CHUNK + 1;
    step->decodes = 0;
    for (uint32_t s = 0; s < 2; s++) {
        step->seq_slot[s] = 3 - s;
        step->seq_row[s] = s * CHUNK;
        step->seq_rows[s] = s == 0 ? CHUNK : 1;
        step->seq_ctx[s] = s == 0 ? ctx : ctx / CHUNK;
        step->want_seq[s] = s;
        step->want_row[s] = s == 0 ? CHUNK - 1 : CHUNK;
    }
    for (uint32_t i = 0; i < step->rows; i++)
        step->token[i] = (int32_t)ids[ctx + i];
    side->ops->start(side->backend, 0);
}

/* Lets the reference do what was enqueued: it works when a step is whole. */
static void run_ref(struct side *ref)
{
    struct step_result result;

    ref->ops->begin(ref->backend, 0);
    ref->ops->end(ref->backend, 0);
    ref->ops->submit(ref->backend);
    assert_int_equal(ref->ops->done(ref->backend, 0, -1, &result), ERR_OK);
}

/* NMSE of the first `columns` numbers of each row; then the card has the reference's. */
static void check_columns(struct side *ref, struct side *card, enum act act, uint32_t rows,
                          uint32_t columns, double limit)
{
    double error = 0.0, size = 0.0;

    run_ref(ref);
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t width;
        const float *want = ref_look(ref->backend, act, row, &width);
        float *got = xcalloc(width, sizeof(*got));

        cuda_read(card->backend, act, row, width, got);
        for (uint32_t i = 0; i < width && i < columns; i++) {
            error += ((double)want[i] - (double)got[i]) * ((double)want[i] - (double)got[i]);
            size += (double)want[i] * (double)want[i];
        }
        cuda_write(card->backend, act, row, width, want);
        free(got);
    }
    if (!(error <= limit * size))
        fail_msg("activation %d: NMSE %.2e, allowed is %.0e", (int)act, error / size, limit);
}

static void check(struct side *ref, struct side *card, enum act act, uint32_t rows, double limit)
{
    check_columns(ref, card, act, rows, UINT32_MAX, limit);
}

#define BOTH(call, ...)                                                                            \
    do {                                                                                           \
        ref->ops->call(ref->backend, 0 __VA_OPT__(, ) __VA_ARGS__);                                \
        card->ops->call(card->backend, 0 __VA_OPT__(, ) __VA_ARGS__);                              \
    } while (0)

/* With a weight, of which each has its own. */
#define BOTH_WITH(call, weight, ...)                                                               \
    do {                                                                                           \
        ref->ops->call(ref->backend, 0, ref->weight __VA_OPT__(, ) __VA_ARGS__);                   \
        card->ops->call(card->backend, 0, card->weight __VA_OPT__(, ) __VA_ARGS__);                \
    } while (0)

static void check_step(struct side *ref, struct side *card, uint32_t ctx, const uint32_t *ids)
{
    static const uint32_t pick[] = {0, 1};
    const uint32_t rows = CHUNK + 1;

    side_begin(ref, ctx, ids);
    side_begin(card, ctx, ids);
    BOTH_WITH(embed, embd);
    check(ref, card, ACT_STREAM, rows, 5e-6);
    BOTH_WITH(norm, norm, true);
    check(ref, card, ACT_NORMED, rows, 1e-5);
    BOTH_WITH(linear, qkv, ACT_NORMED, ACT_QKV, 0);
    check(ref, card, ACT_QKV, rows, 2e-5);
    BOTH(qkv_post, 0); /* the queries; keys and values show in what attention gives */
    check_columns(ref, card, ACT_QKV, rows, grouped.heads * grouped.head_dim, 1e-5);
    BOTH(attn, 0);
    check(ref, card, ACT_HEADS, rows, 5e-5);
    BOTH_WITH(linear, output, ACT_HEADS, ACT_DELTA, 0);
    check(ref, card, ACT_DELTA, rows, 2e-5);
    BOTH_WITH(norm, norm, false);
    check(ref, card, ACT_STREAM, rows, 1e-5);
    check(ref, card, ACT_NORMED, rows, 1e-5);
    BOTH_WITH(linear, pair, ACT_NORMED, ACT_PAIR, 0);
    check(ref, card, ACT_PAIR, rows, 2e-5);
    BOTH(glu);
    check(ref, card, ACT_FF, rows, 2e-5);
    BOTH_WITH(linear, down, ACT_FF, ACT_DELTA, 0);
    check(ref, card, ACT_DELTA, rows, 2e-5);
    BOTH_WITH(norm, final, false);
    check(ref, card, ACT_NORMED, rows, 1e-5);
    BOTH(gather, pick, 2);
    check(ref, card, ACT_PICKED, 2, 5e-6);
    BOTH_WITH(linear, head, ACT_PICKED, ACT_LOGITS, 2);
    check(ref, card, ACT_LOGITS, 2, 2e-5);
}

static void test_each_operation_is_the_references(void **state)
{
    struct side ref = {0}, card = {0};
    struct buffer file;
    struct model *model = tiny_open(&grouped, &file);
    uint32_t ids[2 * CHUNK + 2];

    (void)state;
    tiny_ids(ids, 2 * CHUNK + 2, 4);
    side_open(&ref, &ref_device, &ref_ops, model);
    side_open(&card, &cuda_emu_device, &cuda_emu_ops, model);
    check_step(&ref, &card, 0, ids);
    check_step(&ref, &card, CHUNK, ids);
    ref_device.close(ref.device);
    cuda_emu_device.close(card.device);
    model_close(model);
    buffer_release(&file);
}

/* ---- whole passes ---- */

enum { PROMPT = 70, TOKENS = 6 };

struct logits {
    float value[TOKENS * VOCAB];
    uint32_t len;
};

static void keep_ref(struct drive *drive, const struct step *step, void *arg)
{
    struct logits *logits = arg;
    uint32_t width;

    if (step->wanted > 0)
        memcpy(logits->value + (size_t)logits->len++ * VOCAB,
               ref_look(forward_backend(drive->device), ACT_LOGITS, 0, &width),
               VOCAB * sizeof(float));
}

static void keep_card(struct drive *drive, const struct step *step, void *arg)
{
    struct logits *logits = arg;

    if (step->wanted > 0)
        cuda_read(forward_backend(drive->device), ACT_LOGITS, 0, VOCAB,
                  logits->value + (size_t)logits->len++ * VOCAB);
}

/* Logits after a prompt, read token by token from then on; `ids` are followed, not what is sampled. */
static void run_logits(const struct device_ops *device, const struct model *model,
                       const struct device_limits *as, const uint32_t *ids, struct logits *logits)
{
    struct drive drive;

    logits->len = 0;
    drive_open_as(&drive, device, model, as);
    drive.on_step = device == &ref_device ? keep_ref : keep_card;
    drive.arg = logits;
    for (uint32_t i = 0; i < TOKENS; i++) {
        struct drive_sequence sequence = {
            .prompt = ids, .prompt_len = PROMPT + i, .tokens_max = 1, .chunk = 33};

        drive_run(&drive, &sequence, 1, 3);
    }
    drive_close(&drive);
}

static double compare(const struct tiny_options *options, enum engine_weights weights,
                      enum engine_kv kv)
{
    static struct logits want, got;
    static double exactly[TOKENS * VOCAB];
    const struct device_limits plain = {
        .rows_max = ROWS, .sequences_max = 1, .context_max = CONTEXT, .threads = 1};
    struct device_limits as = plain;
    uint32_t ids[PROMPT + TOKENS];
    struct buffer file;
    struct model *model = tiny_open(options, &file);

    as.weights = weights;
    as.kv = kv;
    tiny_ids(ids, PROMPT + TOKENS, 9);
    run_logits(&ref_device, model, &plain, ids, &want);
    run_logits(&cuda_emu_device, model, &as, ids, &got);
    assert_int_equal(want.len, got.len);
    for (uint32_t i = 0; i < TOKENS * VOCAB; i++)
        exactly[i] = (double)want.value[i];
    model_close(model);
    buffer_release(&file);
    return naive_nmse(exactly, got.value, TOKENS * VOCAB);
}

/* What bf16 can do is about 2e-4 (docs/engine.md); 8 bits give away more. */
static void test_logits_are_near_the_references(void **state)
{
    static const struct {
        const struct tiny_options *model;
        enum engine_weights weights;
        enum engine_kv kv;
        double limit;
    } rows[] = {
        {&grouped, ENGINE_WEIGHTS_BF16, ENGINE_KV_HALF, 5e-4},
        {&quantised, ENGINE_WEIGHTS_BF16, ENGINE_KV_HALF, 5e-4},
        {&grouped, ENGINE_WEIGHTS_BF16, ENGINE_KV_FP8, 5e-3},
        {&grouped, ENGINE_WEIGHTS_FP8, ENGINE_KV_HALF, 2e-2},
        {&quantised, ENGINE_WEIGHTS_INT8, ENGINE_KV_HALF, 5e-3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const double error = compare(rows[i].model, rows[i].weights, rows[i].kv);

        print_message("weights %d, KV %d: NMSE %.1e\n", (int)rows[i].weights, (int)rows[i].kv,
                      error);
        assert_true(error < rows[i].limit);
        assert_true(error > 0.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_operation_is_the_references),
        cmocka_unit_test(test_logits_are_near_the_references),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
