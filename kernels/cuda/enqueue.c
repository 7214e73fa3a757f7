/*
 * enqueue.c: each operation as launches. A step copies its image to the card, then runs the layers,
 * then copies what sampling needs, then makes tokens, then copies the results back; all of it in one
 * queue, so one set of areas serves both steps in flight.
 */
#include "kernels/cuda/cuda.h"

#include <assert.h>

#include "config/clock.h"

static struct card_step *step_of(struct backend *backend, unsigned slot)
{
    return &backend->steps[slot];
}

/* Nothing is enqueued for operations that a graph brings. */
static bool replayed(const struct backend *backend)
{
    return backend->play.mode == PLAY_REPLAY;
}

static void mark(struct backend *backend, enum part part)
{
    struct marks *marks = backend->marks;

    if (marks == NULL || marks->len == marks->room)
        return;
    marks->part[marks->len] = part;
    backend->module->event_record(backend->gpu, marks->event[marks->len++]);
}

static const void *image_at(const struct backend *backend, size_t place)
{
    return backend->area[AREA_IMAGE] + place;
}

static const void *sampling_at(const struct backend *backend, size_t place)
{
    return backend->area[AREA_SAMPLING] + place;
}

/* The rows of the step; as many as a graph of this length may meet. */
static struct extent rows_of(const struct backend *backend, unsigned slot)
{
    const struct image_head *head = image_at(backend, 0);

    return (struct extent){matmul_padded(backend->products, backend->steps[slot].step.rows),
                           &head->rows};
}

static bool only_decodes(const struct step *step)
{
    return step->decodes == step->sequences && step->rows == step->sequences;
}

void cuda_start(struct backend *backend, unsigned slot)
{
    struct card_step *card = step_of(backend, slot);
    const struct step *step = &card->step;
    const unsigned event = backend->steps_begun % EVENT_STEPS;
    size_t bytes = backend->image.attend;

    card->number = backend->steps_begun++;
    card->enqueued_ns = clock_mono_ns();
    card->picked = card->passes = card->embeddings = 0;
    card->sampled = false;
    image_write(&backend->image, step, &backend->slots, card->image);
    bytes += attend_plan(backend->planner, step, &backend->slots,
                         (uint8_t *)card->image + backend->image.attend, &card->kinds);
    backend->module->event_record(backend->gpu, backend->events[event].begin);
    mark(backend, PART_FIXED);
    backend->module->copy(backend->gpu, backend->area[AREA_IMAGE], card->image, bytes);
    play_open(
        backend,
        &(struct play_key){PLAY_FORWARD, matmul_padded(backend->products, step->rows), card->kinds},
        only_decodes(step));
    if (replayed(backend))
        return;
    backend->run->angles(backend->gpu,
                         &(struct angles_args){
                             .rows = rows_of(backend, slot),
                             .position = image_at(backend, backend->image.position),
                             .frequency = (double *)(void *)backend->area[AREA_FREQUENCY],
                             .pairs = backend->shape.hyper.rope_dim / 2,
                             .angle = (float *)(void *)backend->area[AREA_ANGLE],
                         });
    mark(backend, PART_FIXED);
}

void cuda_embed(struct backend *backend, unsigned slot, const struct weight *table)
{
    if (replayed(backend))
        return;
    backend->run->embed(backend->gpu, &(struct embed_args){
                                          .rows = rows_of(backend, slot),
                                          .token = image_at(backend, backend->image.token),
                                          .slot = image_at(backend, backend->image.slot),
                                          .last = (uint32_t *)(void *)backend->area[AREA_LAST],
                                          .table = table->value,
                                          .width = backend->shape.hyper.embed,
                                          .stream = (float *)(void *)backend->area[AREA_STREAM],
                                      });
    mark(backend, PART_LINEAR);
}

/* How the layers' products want their rows; bf16 rows stay in the area that the operation names. */
static struct prepared prepared_of(const struct backend *backend, enum area area)
{
    if (backend->shape.linear == NUMBER_BF16)
        return (struct prepared){NUMBER_BF16, backend->area[area], NULL};
    return (struct prepared){backend->shape.linear, backend->area[AREA_PREPARED],
                             (float *)(void *)backend->area[AREA_SCALE]};
}

void cuda_norm(struct backend *backend, unsigned slot, const struct weight *gain, bool first)
{
    const bool final = (gain->uses & WEIGHT_FINAL) != 0;

    if (replayed(backend))
        return;
    backend->run->norm(
        backend->gpu,
        &(struct norm_args){
            .rows = rows_of(backend, slot),
            .stream = (float *)(void *)backend->area[AREA_STREAM],
            .delta = first ? NULL : (uint16_t *)(void *)backend->area[AREA_DELTA],
            .gain = gain->value,
            .width = backend->shape.hyper.embed,
            .eps = backend->shape.hyper.rms_eps,
            .out = final ? (struct prepared){NUMBER_BF16, backend->area[AREA_NORMED], NULL}
                         : prepared_of(backend, AREA_NORMED),
        });
    mark(backend, PART_LINEAR);
}

enum area cuda_area(enum act act)
{
    static const enum area area[ACT_COUNT] = {
        [ACT_STREAM] = AREA_STREAM, [ACT_NORMED] = AREA_NORMED, [ACT_QKV] = AREA_QKV,
        [ACT_HEADS] = AREA_HEADS,   [ACT_DELTA] = AREA_DELTA,   [ACT_PAIR] = AREA_PAIR,
        [ACT_FF] = AREA_FF,         [ACT_PICKED] = AREA_PICKED, [ACT_LOGITS] = AREA_LOGITS,
    };

    return area[act];
}

static enum product product_of(enum act out, const struct backend *backend,
                               const struct weight *weight)
{
    if (out == ACT_LOGITS)
        return PRODUCT_HEAD;
    if (out == ACT_QKV)
        return PRODUCT_QKV;
    if (out == ACT_PAIR)
        return PRODUCT_PAIR;
    return weight->inputs == backend->shape.hyper.ff ? PRODUCT_DOWN : PRODUCT_OUTPUT;
}

/* What attention gave is the one input that nobody has prepared yet. */
static struct prepared input_of(struct backend *backend, unsigned slot, const struct weight *weight,
                                enum act in)
{
    struct prepared prepared = {NUMBER_BF16, backend->area[cuda_area(in)], NULL};

    if (weight->type == NUMBER_BF16)
        return prepared;
    prepared = prepared_of(backend, cuda_area(in));
    if (in == ACT_HEADS)
        backend->run->quantise(backend->gpu,
                               &(struct quantise_args){
                                   .rows = rows_of(backend, slot),
                                   .in = (uint16_t *)(void *)backend->area[AREA_HEADS],
                                   .width = weight->inputs,
                                   .out = prepared,
                               });
    return prepared;
}

void cuda_linear(struct backend *backend, unsigned slot, const struct weight *weight, enum act in,
                 enum act out, uint32_t rows)
{
    const enum product product = product_of(out, backend, weight);
    /* Padded, also for our own kernel, which does as many as it is told: a graph serves them all. */
    const uint32_t many =
        matmul_padded(backend->products, rows > 0 ? rows : backend->steps[slot].step.rows);
    void *to = backend->area[cuda_area(out)];
    struct prepared input;

    if (replayed(backend))
        return;
    input = input_of(backend, slot, weight, in);
    matmul_run(backend->product[product], weight->value,
               weight->type == NUMBER_FP8 ? weight->scale : NULL, &input,
               weight->type == NUMBER_INT8 ? backend->area[AREA_SUMS] : to, many);
    if (weight->type == NUMBER_INT8)
        backend->run->rescale(backend->gpu, &(struct rescale_args){
                                                .rows = rows_of(backend, slot),
                                                .in = (int32_t *)(void *)backend->area[AREA_SUMS],
                                                .row_scale = input.scale,
                                                .column_scale = weight->scale,
                                                .width = weight->outputs,
                                                .out = to,
                                            });
    mark(backend, out == ACT_LOGITS ? PART_HEAD : PART_LINEAR);
}

static struct kv_layer kv_of(const struct backend *backend, uint32_t layer)
{
    const struct card_shape *shape = &backend->shape;
    const size_t bytes = (size_t)shape->limits.blocks * DEVICE_BLOCK_TOKENS *
                         shape->hyper.kv_heads * shape->hyper.head_dim * number_bytes(shape->kv);

    return (struct kv_layer){shape->kv, backend->area[AREA_K] + layer * bytes,
                             backend->area[AREA_V] + layer * bytes};
}

void cuda_qkv_post(struct backend *backend, unsigned slot, uint32_t layer)
{
    const struct model_hyper *h = &backend->shape.hyper;

    if (replayed(backend))
        return;
    backend->run->rotate(backend->gpu, &(struct rotate_args){
                                           .rows = rows_of(backend, slot),
                                           .qkv = (uint16_t *)(void *)backend->area[AREA_QKV],
                                           .heads = h->heads,
                                           .kv_heads = h->kv_heads,
                                           .head_dim = h->head_dim,
                                           .rope_dim = h->rope_dim,
                                           .angle = (float *)(void *)backend->area[AREA_ANGLE],
                                           .place = image_at(backend, backend->image.place),
                                           .kv = kv_of(backend, layer),
                                       });
    mark(backend, PART_LINEAR);
}

void cuda_attn(struct backend *backend, unsigned slot, uint32_t layer)
{
    const struct model_hyper *h = &backend->shape.hyper;

    if (replayed(backend))
        return;
    backend->run->attend(backend->gpu, &(struct attend_args){
                                           .plan = image_at(backend, backend->image.attend),
                                           .kinds = backend->steps[slot].kinds,
                                           .qkv = (uint16_t *)(void *)backend->area[AREA_QKV],
                                           .kv = kv_of(backend, layer),
                                           .heads = h->heads,
                                           .kv_heads = h->kv_heads,
                                           .head_dim = h->head_dim,
                                           .processors = backend->about.processors,
                                           .out = (uint16_t *)(void *)backend->area[AREA_HEADS],
                                           .part = (float *)(void *)backend->area[AREA_PART],
                                       });
    mark(backend, PART_ATTENTION);
}

void cuda_glu(struct backend *backend, unsigned slot)
{
    if (replayed(backend))
        return;
    backend->run->glu(backend->gpu, &(struct glu_args){
                                        .rows = rows_of(backend, slot),
                                        .pair = (uint16_t *)(void *)backend->area[AREA_PAIR],
                                        .width = backend->shape.hyper.ff,
                                        .kind = GLU_SILU,
                                        .out = prepared_of(backend, AREA_FF),
                                    });
    mark(backend, PART_LINEAR);
}

/* Of decode steps, which graphs are made of, nobody wants a pool. */
void cuda_pool(struct backend *backend, unsigned slot)
{
    const struct image_head *here = backend->steps[slot].image;
    const struct image_head *there = image_at(backend, 0);

    if (here->pools == 0)
        return;
    assert(backend->play.mode == PLAY_NOW);
    backend->run->pool(backend->gpu, &(struct pool_args){
                                         .items = {here->pools, &there->pools},
                                         .item = image_at(backend, backend->image.pool),
                                         .in = (uint16_t *)(void *)backend->area[AREA_NORMED],
                                         .width = backend->shape.hyper.embed,
                                         .pool = (double *)(void *)backend->area[AREA_POOL],
                                     });
    mark(backend, PART_HEAD);
}

/* Once a step, when what is wanted stands. */
static void begin_sampling(struct backend *backend, unsigned slot)
{
    struct card_step *card = step_of(backend, slot);
    const uint32_t most = backend->shape.picked_max;
    const struct sampling_head *head = card->sampling;
    size_t bytes;

    if (card->sampled)
        return;
    card->sampled = true;
    bytes = sampling_write(&backend->sampling, &card->step, &backend->slots, most, card->sampling,
                           &card->picked);
    card->embeddings = head->embeddings;
    backend->module->copy(backend->gpu, backend->area[AREA_SAMPLING], card->sampling, bytes);
    if (card->picked > 0)
        play_open(
            backend,
            &(struct play_key){PLAY_SAMPLE, matmul_padded(backend->products, card->picked), 0},
            card->picked <= most && card->embeddings == 0);
}

static struct extent picked_of(const struct backend *backend, const struct card_step *card,
                               uint32_t len)
{
    const struct sampling_head *head = sampling_at(backend, 0);

    return (struct extent){matmul_padded(backend->products, len), &head->picked[card->passes]};
}

void cuda_gather(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len)
{
    const struct card_step *card = step_of(backend, slot);
    const uint32_t *row;

    (void)pick; /* the sampling image has them in the same order */
    begin_sampling(backend, slot);
    if (replayed(backend))
        return;
    row = sampling_at(backend, backend->sampling.row);
    backend->run->gather(backend->gpu,
                         &(struct gather_args){
                             .rows = picked_of(backend, card, len),
                             .row = row + (size_t)card->passes * backend->shape.picked_max,
                             .in = (uint16_t *)(void *)backend->area[AREA_NORMED],
                             .width = backend->shape.hyper.embed,
                             .out = (uint16_t *)(void *)backend->area[AREA_PICKED],
                         });
    mark(backend, PART_HEAD);
}

void cuda_sample(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len)
{
    struct card_step *card = step_of(backend, slot);
    const struct sample_row *row = sampling_at(backend, backend->sampling.sample);
    const uint32_t slots = backend->shape.limits.sequences_max;
    uint32_t *result = (uint32_t *)(void *)backend->area[AREA_RESULT];

    (void)pick;
    if (!replayed(backend))
        backend->run->sample(backend->gpu,
                             &(struct sample_args){
                                 .rows = picked_of(backend, card, len),
                                 .row = row + (size_t)card->passes * backend->shape.picked_max,
                                 .logits = (float *)(void *)backend->area[AREA_LOGITS],
                                 .vocab = backend->shape.hyper.vocab,
                                 .last = (uint32_t *)(void *)backend->area[AREA_LAST],
                                 .token = result,
                                 .logprob = (float *)(void *)(result + slots),
                                 .bad = result + 2 * (size_t)slots,
                             });
    card->passes++;
    mark(backend, PART_HEAD);
}

static void make_embeddings(struct backend *backend, const struct card_step *card)
{
    const struct sampling_head *head = sampling_at(backend, 0);
    const uint32_t slots = backend->shape.limits.sequences_max;
    uint32_t *result = (uint32_t *)(void *)backend->area[AREA_RESULT];

    backend->run->embedding(backend->gpu,
                            &(struct embedding_args){
                                .items = {card->embeddings, &head->embeddings},
                                .item = sampling_at(backend, backend->sampling.embedding),
                                .pool = (double *)(void *)backend->area[AREA_POOL],
                                .width = backend->shape.hyper.embed,
                                .out = (float *)(void *)backend->area[AREA_EMBEDDING],
                                .bad = result + 2 * (size_t)slots,
                            });
    backend->module->copy(backend->gpu, card->embedding, backend->area[AREA_EMBEDDING],
                          (size_t)card->step.wanted * backend->shape.hyper.embed * sizeof(float));
}

void cuda_end(struct backend *backend, unsigned slot)
{
    struct card_step *card = step_of(backend, slot);

    begin_sampling(backend, slot);
    play_close(backend);
    if (card->embeddings > 0)
        make_embeddings(backend, card);
    backend->module->copy(backend->gpu, card->result, backend->area[AREA_RESULT],
                          area_bytes(&backend->shape, AREA_RESULT));
    mark(backend, PART_HEAD);
    backend->module->event_record(backend->gpu, backend->events[card->number % EVENT_STEPS].end);
}

/* After the layers a graph of them ends; that of sampling has ended with its step. */
void cuda_submit(struct backend *backend)
{
    play_close(backend);
}
