/*
 * calibrate.c: what rows, KV tokens and sampled rows cost on this card with this model: a few made-up
 * steps through the very path that real ones take, each operation between two events.
 *
 * Costs alone depend on it, never a token. A step that would take longer than CALIBRATE_NS_MAX is
 * left out, and what it would have told follows in proportion from a smaller one.
 */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

enum { CALIBRATE_CONTEXT = 512, OPERATIONS_OF_A_LAYER = 9, OPERATIONS_BESIDE = 16 };
#define CALIBRATE_NS_MAX 400000000.0

/* One shape of a step: so many sequences of so many rows each, after so much context. */
struct trial {
    uint32_t sequences, rows, context;
};

/* Blocks are those of the pool over and over: what stands in them does not matter. */
static void fill_step(struct backend *backend, const struct trial *trial, struct step *step)
{
    const struct device_limits *limits = &backend->shape.limits;
    struct slots *slots = &backend->slots;
    uint32_t block = 0, row = 0;

    for (uint32_t s = 0; s < trial->sequences; s++) {
        const uint32_t end = trial->context + trial->rows;

        for (uint32_t i = 0; i < (end + DEVICE_BLOCK_TOKENS - 1) / DEVICE_BLOCK_TOKENS; i++)
            slots->blocks[(size_t)s * slots->blocks_stride + i] = block++ % limits->blocks;
        slots->sampling[s] = (struct engine_sampling){.temperature = 1.0f, .top_p = 1.0f};
        step->seq_slot[s] = step->want_seq[s] = s;
        step->seq_row[s] = row;
        step->seq_rows[s] = trial->rows;
        step->seq_ctx[s] = trial->context;
        for (uint32_t i = 0; i < trial->rows; i++)
            step->token[row++] = 0;
        step->want_row[s] = row - 1;
    }
    step->sequences = step->wanted = trial->sequences;
    step->rows = row;
    step->decodes = trial->rows == 1 && trial->context > 0 ? trial->sequences : 0;
}

/* Times between marks go to the part that each mark ended. */
static void add_up(struct backend *backend, double ret_part_ns[PART_COUNT])
{
    const struct marks *marks = backend->marks;

    for (int i = 0; i < PART_COUNT; i++)
        ret_part_ns[i] = 0.0;
    for (uint32_t i = 1; i < marks->len; i++)
        ret_part_ns[marks->part[i]] += (double)timeline_ns(
            backend->module->event_ms(backend->gpu, marks->event[i - 1], marks->event[i]));
}

static enum err run_trial(struct device *device, const struct trial *trial,
                          double ret_part_ns[PART_COUNT])
{
    struct backend *backend = forward_backend(device);
    struct step_result result;
    enum err err;

    backend->marks->len = 0;
    fill_step(backend, trial, forward_begin(device, 0));
    forward_forward(device, 0);
    forward_sample(device, 0);
    err = forward_done(device, 0, -1, &result);
    if (err == ERR_OK)
        add_up(backend, ret_part_ns);
    return err;
}

/* The first run of a shape warms up what the second measures. */
static enum err measure(struct device *device, const struct trial *trial, double *ret_linear_row_ns)
{
    struct backend *backend = forward_backend(device);
    struct prices *prices = &backend->prices;
    const uint32_t rows = trial->sequences * trial->rows;
    double part_ns[PART_COUNT];
    enum err err = run_trial(device, trial, part_ns);
    struct price_work work;

    if (err == ERR_OK)
        err = run_trial(device, trial, part_ns);
    if (err)
        return err;
    price_work_of(&backend->steps[0].step, &work);
    prices->fixed_ns = part_ns[PART_FIXED];
    price_line_add(&prices->linear, rows, part_ns[PART_LINEAR]);
    price_line_add(&prices->head, trial->sequences, part_ns[PART_HEAD]);
    if (work.decode_kv > 0)
        prices->decode_kv_ns = part_ns[PART_ATTENTION] / (double)work.decode_kv;
    if (work.chunk_kv > 0)
        prices->chunk_kv_ns = part_ns[PART_ATTENTION] / (double)work.chunk_kv;
    *ret_linear_row_ns = (part_ns[PART_LINEAR] + part_ns[PART_ATTENTION]) / rows;
    return ERR_OK;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* One row, a full batch of them, a full step of a prompt. */
static enum err measure_all(struct device *device)
{
    struct backend *backend = forward_backend(device);
    const struct device_limits *limits = &backend->shape.limits;
    const uint32_t all = limits->context_max;
    const uint32_t context = smaller(CALIBRATE_CONTEXT, all - 1);
    const struct trial trials[] = {
        {1, 1, context},
        {1, smaller(smaller(64, limits->rows_max), all), 0},
        {smaller(limits->sequences_max, limits->rows_max), 1, context},
        {1, smaller(limits->rows_max, all), 0},
    };
    double row_ns = 0.0;

    for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++) {
        const uint32_t rows = trials[i].sequences * trials[i].rows;
        enum err err = ERR_OK;

        if (row_ns * rows < CALIBRATE_NS_MAX)
            err = measure(device, &trials[i], &row_ns);
        if (err)
            return err;
    }
    if (backend->prices.decode_kv_ns <= 0.0)
        backend->prices.decode_kv_ns = backend->prices.chunk_kv_ns;
    return ERR_OK;
}

enum err cuda_calibrate(struct device *device)
{
    struct backend *backend = forward_backend(device);
    struct marks marks = {.room = backend->shape.hyper.layers * OPERATIONS_OF_A_LAYER +
                                  OPERATIONS_BESIDE + 3 * SAMPLING_PASSES_MAX};
    enum err err;

    marks.event = xcalloc(marks.room, sizeof(*marks.event));
    marks.part = xcalloc(marks.room, sizeof(*marks.part));
    for (uint32_t i = 0; i < marks.room; i++) {
        marks.event[i] = backend->module->event_new(backend->gpu);
        if (marks.event[i] == NULL)
            marks.room = i;
    }
    backend->marks = &marks;
    backend->eager = true;
    err = measure_all(device);
    backend->marks = NULL;
    backend->eager = false;
    backend->module->zero(backend->gpu, backend->area[AREA_LAST],
                          area_bytes(&backend->shape, AREA_LAST));
    free(marks.event);
    free(marks.part);
    return err;
}
