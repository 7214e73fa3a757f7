/*
 * test_cuda_attend.c: attention against its formula in double, and against itself: a row's bits are
 * the same however its sequence was cut into chunks, whoever else is in the step, whoever shares
 * its blocks, and whatever lies in memory where nothing was written yet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "tests/unit/kernels/cuda/attend_case.h"
#include "tests/unit/kernels/cuda/gpu_rig.h"

enum { PADDING = 3, /* rows after the step's, which nobody may write */ SEQUENCES = 48 };

/*
 * What a sequence consists of: up to `shared` that is its parent's. Who has the same text and shape
 * has the same queries, keys and values.
 */
struct text {
    uint32_t id;
    const struct text *parent;
    uint32_t shared;
    bool cancels; /* what is large in it adds up to nothing, so that the last bits of sums show */
};

/* A step with all that attention reads. */
struct scene {
    struct attend_case *at;
    const struct text *text[SEQUENCES];
    enum number type;
};

/* Results of one text, by position: bf16 [len][H D]. */
struct canon {
    const struct text *text;
    uint16_t *out;
    uint32_t len;
};

static const struct text plain_text = {1, NULL, 0, false}, cancelling_text = {2, NULL, 0, true};

static struct attend_shape shape_of(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
{
    return (struct attend_shape){
        heads,
        kv_heads,
        head_dim,
        {.rows_max = 1024, .sequences_max = SEQUENCES, .blocks = 192, .context_max = 1024},
        true};
}

static struct scene scene_new(struct attend_shape shape, enum number type, uint32_t seed)
{
    return (struct scene){.at = attend_case_new(&shape, seed), .type = type};
}

static uint32_t scene_add(struct scene *scene, const struct text *text, uint32_t context,
                          uint32_t rows, uint32_t like, uint32_t shared_blocks)
{
    uint32_t s = attend_case_add(scene->at, context, rows, like, shared_blocks);

    assert_true(s < SEQUENCES);
    scene->text[s] = text;
    return s;
}

static uint32_t mix(uint32_t bits)
{
    bits = (bits ^ bits >> 16) * 0x7feb352du;
    bits = (bits ^ bits >> 15) * 0x846ca68bu;
    return bits ^ bits >> 16;
}

/* The bits of one number of a text: kind 0 queries, 1 keys, 2 values. */
static uint32_t bits_at(const struct text *text, uint32_t kind, uint32_t position, uint32_t index)
{
    while (text->parent != NULL && position < text->shared)
        text = text->parent;
    return mix(mix(mix(text->id * 4 + kind) + position) + index);
}

/*
 * The second split repeats the keys of the first and takes its large values back; so do the second
 * and the fourth page of the third. Returns the factor of values, *position becomes whose keys they
 * are.
 */
static float cancel(uint32_t *position)
{
    uint32_t split = *position / ATTEND_SPLIT, page = *position / ATTEND_PAGE % ATTEND_SPLIT_PAGES;

    if (split < 2) {
        *position %= ATTEND_SPLIT;
        return split == 0 ? 0x1p14f : -0x1p14f;
    }
    if (page >= 4)
        return 1.0f;
    *position -= page % 2 * ATTEND_PAGE;
    return page % 2 == 0 ? 0x1p7f : -0x1p7f;
}

static float number_at(const struct text *text, uint32_t kind, uint32_t position, uint32_t index)
{
    float factor = kind == 0 ? 3.0f : 1.0f; /* queries that mind what they meet */

    while (text->parent != NULL && position < text->shared)
        text = text->parent;
    if (text->cancels && kind > 0) {
        float of_value = cancel(&position);

        factor = kind == 2 ? of_value : factor;
    }
    return bf16_float(
        bf16(factor * ((float)(bits_at(text, kind, position, index) >> 8) * 0x1p-23f - 1.0f)));
}

/* e4m3 from 2^-4 to 1.875, of either sign. */
static uint8_t fp8_at(const struct text *text, uint32_t kind, uint32_t position, uint32_t index)
{
    uint32_t bits = bits_at(text, kind, position, index);

    return (uint8_t)((bits & 0x80) | (3 + (bits >> 9 & 3) + (bits >> 8 & 1)) << 3 | (bits & 7));
}

static double fp8_value(uint8_t bits)
{
    double value = ldexp(8 + (bits & 7), (bits >> 3 & 15) - 10);

    return bits & 0x80 ? -value : value;
}

/* A key or value of the scene's sequence, as it is stored. */
static double stored(const struct scene *scene, uint32_t s, uint32_t kind, uint32_t position,
                     uint32_t index)
{
    if (scene->type == NUMBER_FP8)
        return fp8_value(fp8_at(scene->text[s], kind, position, index));
    return (double)number_at(scene->text[s], kind, position, index);
}

/* Keys or values as they lie on the card; what nobody wrote is NaN. */
static void *put_cache(struct rig *rig, const struct scene *scene, uint32_t kind)
{
    const struct attend_shape *shape = &scene->at->shape;
    const size_t block = (size_t)shape->kv_heads * ATTEND_PAGE * shape->head_dim;
    const size_t size = scene->type == NUMBER_FP8 ? 1 : 2,
                 bytes = shape->limits.blocks * block * size;
    uint8_t *pool = malloc(bytes);
    void *device;

    assert_non_null(pool);
    memset(pool, 0xff, bytes);
    for (uint32_t s = 0; s < scene->at->step.sequences; s++) {
        const uint32_t *blocks = attend_case_blocks(scene->at, s);
        uint32_t len = scene->at->step.seq_ctx[s] + scene->at->step.seq_rows[s];

        for (uint32_t p = 0; p < len; p++)
            for (uint32_t i = 0; i < shape->kv_heads * shape->head_dim; i++) {
                uint32_t head = i / shape->head_dim, d = i % shape->head_dim;
                size_t at = blocks[p / ATTEND_PAGE] * block +
                            ((size_t)head * ATTEND_PAGE + p % ATTEND_PAGE) * shape->head_dim + d;

                if (scene->type == NUMBER_FP8)
                    pool[at] = fp8_at(scene->text[s], kind, p, i);
                else
                    ((uint16_t *)(void *)pool)[at] = bf16(number_at(scene->text[s], kind, p, i));
            }
    }
    device = rig_put(rig, pool, bytes);
    free(pool);
    return device;
}

static uint32_t heads_len(const struct scene *scene)
{
    return scene->at->shape.heads * scene->at->shape.head_dim;
}

/* Queries; the keys and values beside them are NaN: attention has them from the cache. */
static void *put_queries(struct rig *rig, const struct scene *scene)
{
    const struct step *step = &scene->at->step;
    const uint32_t len = heads_len(scene),
                   width = len + 2 * scene->at->shape.kv_heads * scene->at->shape.head_dim;
    const size_t bytes = (size_t)(step->rows + PADDING) * width * sizeof(uint16_t);
    uint16_t *qkv = malloc(bytes);
    void *device;

    assert_non_null(qkv);
    memset(qkv, 0xff, bytes);
    for (uint32_t s = 0; s < step->sequences; s++)
        for (uint32_t r = 0; r < step->seq_rows[s]; r++)
            for (uint32_t i = 0; i < len; i++)
                qkv[(size_t)(step->seq_row[s] + r) * width + i] =
                    bf16(number_at(scene->text[s], 0, step->seq_ctx[s] + r, i));
    device = rig_put(rig, qkv, bytes);
    free(qkv);
    return device;
}

/* The scene on the card. `image` has room for any plan. */
static struct attend_args put_scene(struct rig *rig, const struct scene *scene)
{
    const struct attend_shape *shape = &scene->at->shape;
    const size_t out_bytes =
        (size_t)(shape->limits.rows_max + PADDING) * heads_len(scene) * sizeof(uint16_t);

    return (struct attend_args){
        .qkv = put_queries(rig, scene),
        .kv = {scene->type, put_cache(rig, scene, 1), put_cache(rig, scene, 2)},
        .heads = shape->heads,
        .kv_heads = shape->kv_heads,
        .head_dim = shape->head_dim,
        .out = rig_room(rig, out_bytes),
        .part = rig_room(rig, attend_part_bytes(shape) + 16),
        .processors = rig->about.processors,
    };
}

static size_t plan_scene(const struct scene *scene, void *image, uint32_t *kinds)
{
    struct attend_planner *planner = attend_planner_new(&scene->at->shape);
    size_t bytes;

    assert_non_null(planner);
    bytes = attend_plan(planner, &scene->at->step, &scene->at->slots, image, kinds);
    attend_planner_free(planner);
    return bytes;
}

/* bf16 [rows][H D], the caller's to free; rows after them are as they were. */
static uint16_t *get_out(struct rig *rig, const struct scene *scene, const void *device)
{
    const size_t len = (size_t)scene->at->step.rows * heads_len(scene),
                 padding = (size_t)PADDING * heads_len(scene);
    uint16_t *out = malloc((len + padding) * sizeof(*out));

    assert_non_null(out);
    rig_get(rig, out, device, (len + padding) * sizeof(*out));
    for (size_t i = len; i < len + padding; i++)
        assert_int_equal(out[i], 0xffff);
    return out;
}

static uint16_t *run_on(struct rig *rig, const struct scene *scene)
{
    struct attend_args args = put_scene(rig, scene);
    void *image = malloc(attend_image_bytes(&scene->at->shape));
    size_t bytes = plan_scene(scene, image, &args.kinds);

    args.plan = rig_put(rig, image, bytes);
    rig->kernels->attend(rig->gpu, &args);
    free(image);
    return get_out(rig, scene, args.out);
}

/* Under schedule i, modulo those that there are. */
static uint16_t *run(const struct scene *scene, uint32_t i)
{
    uint32_t schedules = 0;
    struct rig *rig;
    uint16_t *out;

    while (rig_schedule(schedules) != NULL)
        schedules++;
    rig = rig_open_as(rig_schedule(i % schedules));
    out = run_on(rig, scene);
    rig_close(rig);
    return out;
}

/* One query head of one row, by the formula. */
static void formula(const struct scene *scene, uint32_t s, uint32_t position, uint32_t head,
                    double *out)
{
    const struct attend_shape *shape = &scene->at->shape;
    const uint32_t dims = shape->head_dim, kv = head / (shape->heads / shape->kv_heads) * dims;
    double most = -INFINITY, sum = 0, score[4096];

    for (uint32_t t = 0; t <= position; t++) {
        score[t] = 0;
        for (uint32_t d = 0; d < dims; d++)
            score[t] += (double)number_at(scene->text[s], 0, position, head * dims + d) *
                        stored(scene, s, 1, t, kv + d);
        score[t] /= sqrt(dims);
        most = score[t] > most ? score[t] : most;
    }
    memset(out, 0, dims * sizeof(*out));
    for (uint32_t t = 0; t <= position; t++) {
        double weight = exp(score[t] - most);

        sum += weight;
        for (uint32_t d = 0; d < dims; d++)
            out[d] += weight * stored(scene, s, 2, t, kv + d);
    }
    for (uint32_t d = 0; d < dims; d++)
        out[d] /= sum;
}

/*
 * Each third row of a chunk, and heads in turn. Weights and results are rounded to 8 bits, so a row
 * of few numbers may be off by more than all rows together.
 */
static void check_formula(const struct scene *scene, const uint16_t *out)
{
    const struct step *step = &scene->at->step;
    const uint32_t dims = scene->at->shape.head_dim, heads = scene->at->shape.heads;
    double *want = calloc((size_t)step->rows * dims, sizeof(*want));
    float *got = calloc((size_t)step->rows * dims, sizeof(*got));
    uint32_t len = 0;

    assert_true(want != NULL && got != NULL);
    for (uint32_t s = 0; s < step->sequences; s++)
        for (uint32_t r = 0; r < step->seq_rows[s]; r += 3, len++) {
            double *one = want + (size_t)len * dims;
            size_t from = (size_t)(step->seq_row[s] + r) * heads + len % heads;

            formula(scene, s, step->seq_ctx[s] + r, len % heads, one);
            for (uint32_t d = 0; d < dims; d++)
                got[len * dims + d] = bf16_float(out[from * dims + d]);
            assert_true(rig_nmse(one, got + (size_t)len * dims, dims) <= 1e-4);
        }
    assert_true(rig_nmse(want, got, (size_t)len * dims) <= 1e-5);
    free(want);
    free(got);
}

/* The results of a text that was read alone, in one piece. */
static struct canon canon_of(struct attend_shape shape, enum number type, const struct text *text,
                             uint32_t len)
{
    struct scene scene = scene_new(shape, type, 100 + text->id);
    struct canon canon = {text, NULL, len};

    scene_add(&scene, text, 0, len, 0, 0);
    canon.out = run(&scene, 0);
    attend_case_free(scene.at);
    return canon;
}

/* Bit by bit; `canons` has the text of each sequence. */
static void check_bits(const struct scene *scene, const uint16_t *out, const struct canon *canons)
{
    const struct step *step = &scene->at->step;
    const uint32_t len = heads_len(scene);

    for (uint32_t s = 0; s < step->sequences; s++) {
        const struct canon *canon = canons;

        while (canon->text != scene->text[s])
            canon++;
        assert_true(step->seq_ctx[s] + step->seq_rows[s] <= canon->len);
        assert_memory_equal(out + (size_t)step->seq_row[s] * len,
                            canon->out + (size_t)step->seq_ctx[s] * len,
                            (size_t)step->seq_rows[s] * len * sizeof(*out));
    }
}

/* Under all schedules, and with and without cascades. */
static void check_everywhere(struct scene *scene, const struct canon *canons)
{
    for (uint32_t i = 0; rig_schedule(i) != NULL; i++) {
        uint16_t *out;

        scene->at->shape.cascade = i % 2 == 0;
        out = run(scene, i);
        check_bits(scene, out, canons);
        free(out);
    }
}

/* Lengths at which pages and splits begin and end, each as a decode. */
static void add_edges(struct scene *scene, const struct text *text)
{
    static const uint32_t contexts[] = {0, 30, 31, 32, 254, 255, 256, 511, 512, 699};

    for (size_t i = 0; i < sizeof(contexts) / sizeof(*contexts); i++)
        scene_add(scene, text, contexts[i], 1, 0, 0);
}

/* Every head size and type, decoding and reading, with head counts that fit no tile. */
static void cuda_attention_is_what_the_formula_says(void **state)
{
    static const struct {
        uint32_t heads, kv_heads, head_dim;
        enum number type;
    } rows[] = {
        {4, 2, 32, NUMBER_BF16},  {3, 1, 64, NUMBER_BF16},  {5, 1, 96, NUMBER_BF16},
        {2, 2, 128, NUMBER_BF16}, {2, 1, 256, NUMBER_BF16}, {20, 1, 32, NUMBER_BF16},
        {71, 1, 32, NUMBER_BF16}, {3, 1, 80, NUMBER_BF16},  {2, 1, 5, NUMBER_BF16},
        {4, 1, 32, NUMBER_FP8},   {2, 1, 128, NUMBER_FP8},  {1, 1, 256, NUMBER_FP8},
        {2, 2, 40, NUMBER_FP8},
    };

    (void)state;
    for (uint32_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct scene scene =
            scene_new(shape_of(rows[i].heads, rows[i].kv_heads, rows[i].head_dim), rows[i].type, i);
        uint16_t *out;

        scene_add(&scene, &plain_text, 254, 1, 0, 0);
        scene_add(&scene, &plain_text, 290, 1, 0, 0);
        scene_add(&scene, &plain_text, 240, 34, 0, 0);
        scene_add(&scene, &plain_text, 0, 3, 0, 0);
        out = run(&scene, i);
        check_formula(&scene, out);
        free(out);
        attend_case_free(scene.at);
    }
}

/* 700 tokens read at once, in chunks of any size, and one by one. */
static void check_chunks(struct attend_shape shape, enum number type, const struct text *text)
{
    static const uint32_t cuts[] = {0, 1, 32, 33, 64, 255, 257, 262, 480, 512, 543, 700};
    struct canon canon = canon_of(shape, type, text, 700);
    struct scene scene = scene_new(shape, type, 1);
    uint16_t *out;

    for (uint32_t i = 0; i + 1 < sizeof(cuts) / sizeof(*cuts); i++)
        scene_add(&scene, text, cuts[i], cuts[i + 1] - cuts[i], i == 0 ? 0 : i - 1,
                  cuts[i] / ATTEND_PAGE);
    out = run(&scene, 1);
    check_bits(&scene, out, &canon);
    free(out);
    attend_case_free(scene.at);

    scene = scene_new(shape, type, 2);
    add_edges(&scene, text);
    check_everywhere(&scene, &canon);
    attend_case_free(scene.at);
    free(canon.out);
}

static void cuda_decode_is_prefill_is_any_chunk(void **state)
{
    (void)state;
    check_chunks(shape_of(2, 1, 32), NUMBER_BF16, &cancelling_text);
}

static void cuda_decode_is_prefill_in_fp8(void **state)
{
    (void)state;
    check_chunks(shape_of(1, 1, 32), NUMBER_FP8, &plain_text);
}

/*
 * Where warps share rows, where heads are more than a warp or a block has rows, where there are no
 * matrix units: a chunk that passes the end of a split, and its rows one by one.
 */
static void cuda_other_shapes_keep_their_bits_too(void **state)
{
    static const uint32_t shapes[][3] = {{1, 1, 256}, {20, 1, 32}, {70, 1, 32}, {2, 1, 24}};
    const uint32_t first = 250, rows = 45;

    (void)state;
    for (uint32_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct scene scene =
            scene_new(shape_of(shapes[i][0], shapes[i][1], shapes[i][2]), NUMBER_BF16, i);
        const uint32_t len = heads_len(&scene);
        uint16_t *out;

        scene_add(&scene, &cancelling_text, first, rows, 0, 0);
        for (uint32_t row = 0; row < rows; row += 4)
            scene_add(&scene, &cancelling_text, first + row, 1, 0, 0);
        out = run(&scene, i + 1);
        for (uint32_t row = 0; row < rows; row += 4)
            assert_memory_equal(out + (size_t)row * len, out + (rows + row / 4) * (size_t)len,
                                len * sizeof(*out));
        free(out);
        attend_case_free(scene.at);
    }
}

/*
 * Sequences that begin alike, some with the same blocks and some with blocks of their own, in two
 * orders: some share one split, some two, one sees all but one position of the second.
 */
static void cuda_company_and_cascades_change_no_bit(void **state)
{
    static const struct text other = {3, &cancelling_text, 512, true};
    struct attend_shape shape = shape_of(4, 1, 32);
    struct canon canons[] = {canon_of(shape, NUMBER_BF16, &cancelling_text, 560),
                             canon_of(shape, NUMBER_BF16, &other, 560)};

    (void)state;
    for (uint32_t order = 0; order < 2; order++) {
        struct scene scene = scene_new(shape, NUMBER_BF16, 20 + order);
        uint32_t first = scene_add(&scene, order == 0 ? &cancelling_text : &other, 530, 1, 0, 0);

        for (uint32_t i = 0; i < 6; i++) {
            scene_add(&scene, i % 2 == order ? &cancelling_text : &other, 512 + 7 * i, 1, first,
                      16);
            scene_add(&scene, &cancelling_text, 300 + i, 1, first, 9);
        }
        scene_add(&scene, &cancelling_text, 510, 1, first, 15);
        scene_add(&scene, &cancelling_text, 511, 1, first, 16);
        scene_add(&scene, &cancelling_text, 540, 4, first, 16); /* a chunk, and a cascade's rows */
        scene_add(&scene, &other, 540, 1, 0, 0);
        check_everywhere(&scene, canons);
        attend_case_free(scene.at);
    }
    free(canons[0].out);
    free(canons[1].out);
}

/* Alone, each row is what it was in the step of five. */
static void cuda_a_row_alone_is_the_row_in_company(void **state)
{
    struct attend_shape shape = shape_of(6, 2, 64);
    struct scene all = scene_new(shape, NUMBER_BF16, 30);
    const uint32_t len = 6 * 64;
    uint16_t *out;

    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        scene_add(&all, &plain_text, 250 + 3 * i, i == 4 ? 9 : 1, 0, 0);
    out = run(&all, 0);
    check_formula(&all, out);
    for (uint32_t i = 0; i < 5; i++) {
        struct scene one = scene_new(shape, NUMBER_BF16, 31 + i);
        uint16_t *alone;

        scene_add(&one, &plain_text, 250 + 3 * i, 1, 0, 0);
        alone = run(&one, i);
        assert_memory_equal(out + (size_t)i * len, alone, len * sizeof(*out));
        free(alone);
        attend_case_free(one.at);
    }
    free(out);
    attend_case_free(all.at);
}

/*
 * Shape and lengths of a real model on a card, less under emulation: a chunk, and rows of it as
 * decodes that share its beginning or have blocks of their own.
 */
static void check_large(enum number type, bool card)
{
    const uint32_t context = card ? 3000 : 300, rows = card ? 193 : 25, decodes = 8;
    struct attend_shape shape = card ? shape_of(32, 8, 128) : shape_of(8, 2, 64);
    struct scene scene;
    uint32_t len;

    shape.limits.blocks = card ? 1024 : 192;
    shape.limits.context_max = card ? 4096 : 1024;
    scene = scene_new(shape, type, 50);
    len = heads_len(&scene);
    scene_add(&scene, &plain_text, context, rows, 0, 0);
    for (uint32_t i = 0; i <= decodes; i++)
        scene_add(&scene, &plain_text, context + i * (rows - 1) / decodes, 1, 0,
                  i % 3 == 2 ? 0 : context / ATTEND_PAGE);
    for (uint32_t cascade = 0; cascade < 2; cascade++) {
        uint16_t *out;

        scene.at->shape.cascade = cascade != 0;
        out = run(&scene, cascade);
        for (uint32_t i = 0; i <= decodes; i++)
            assert_memory_equal(out + (size_t)(i * (rows - 1) / decodes) * len,
                                out + (size_t)(rows + i) * len, len * sizeof(*out));
        if (cascade != 0)
            check_formula(&scene, out);
        free(out);
    }
    attend_case_free(scene.at);
}

static void cuda_a_models_shape_keeps_its_bits(void **state)
{
    struct rig *rig = rig_open();
    bool card = strcmp(rig->module->name, "cuda-emu") != 0;

    (void)state;
    rig_close(rig);
    check_large(NUMBER_BF16, card);
    check_large(NUMBER_FP8, card);
}

/* A graph that was recorded for one step serves others: longer, shorter, of other shares. */
static void cuda_a_graph_serves_other_counts(void **state)
{
    struct attend_shape shape = shape_of(4, 1, 32);
    struct canon canon = canon_of(shape, NUMBER_BF16, &cancelling_text, 600);
    struct rig *rig = rig_open();
    struct gpu_graph *graph = NULL;
    size_t room = attend_image_bytes(&shape);
    uint8_t *image = rig->module->take_host(rig->gpu, room);
    void *plan = rig_room(rig, room), *out = NULL;

    (void)state;
    assert_non_null(image);
    for (uint32_t round = 0; round < 3; round++) {
        struct scene scene = scene_new(shape, NUMBER_BF16, 40); /* its first sequence: the same */
        struct attend_args args;
        uint16_t *got;

        for (uint32_t i = 0; i < (const uint32_t[]){2, 12, 1}[round]; i++)
            scene_add(&scene, &cancelling_text, 520 + i, 1, 0, i == 0 ? 0 : 16);
        plan_scene(&scene, image, &args.kinds);
        rig->module->copy(rig->gpu, plan, image, room);
        if (graph == NULL) {
            struct scene large = scene_new(shape, NUMBER_BF16, 40);

            for (uint32_t i = 0; i < 12; i++)
                scene_add(&large, &cancelling_text, 520 + i, 1, 0, i == 0 ? 0 : 16);
            args = put_scene(rig, &large);
            args.plan = plan;
            args.kinds = ATTEND_SINGLE | ATTEND_TILES | ATTEND_FOLD;
            out = args.out;
            rig->module->capture_begin(rig->gpu);
            rig->kernels->attend(rig->gpu, &args);
            graph = rig->module->capture_end(rig->gpu);
            assert_non_null(graph);
            attend_case_free(large.at);
        }
        rig->module->zero(rig->gpu, out, (size_t)12 * heads_len(&scene) * sizeof(*got));
        rig->module->graph_launch(rig->gpu, graph);
        rig_wait(rig);
        got = malloc((size_t)12 * heads_len(&scene) * sizeof(*got));
        rig_get(rig, got, out, (size_t)12 * heads_len(&scene) * sizeof(*got));
        check_bits(&scene, got, &canon);
        for (size_t i = (size_t)scene.at->step.rows * heads_len(&scene);
             i < (size_t)12 * heads_len(&scene); i++)
            assert_int_equal(got[i], 0);
        free(got);
        attend_case_free(scene.at);
    }
    rig_close(rig);
    free(canon.out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuda_attention_is_what_the_formula_says),
        cmocka_unit_test(cuda_decode_is_prefill_is_any_chunk),
        cmocka_unit_test(cuda_decode_is_prefill_in_fp8),
        cmocka_unit_test(cuda_other_shapes_keep_their_bits_too),
        cmocka_unit_test(cuda_company_and_cascades_change_no_bit),
        cmocka_unit_test(cuda_a_row_alone_is_the_row_in_company),
        cmocka_unit_test(cuda_a_models_shape_keeps_its_bits),
        cmocka_unit_test(cuda_a_graph_serves_other_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
