/* bench_run.c: one engine for all that runs side by side in it; jobs have one each. */
#include "kernels/bench/bench_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/log.h"
#include "kernels/bench/random_model.h"
#include "kernels/device.h"
#include "kernels/model/model.h"

enum { WARM_PROMPT = 32, WARM_OUTPUT = 4, BLOCK = DEVICE_BLOCK_TOKENS };

/* A session on its way. */
struct bench {
    const struct bench_options *options;
    struct report report;
    struct engine_model model; /* of the engine that was open last */
    char path[64];             /* of a random model, which has no name in a folder */
    int file;                  /* that one, or -1 */
    uint32_t runs;             /* so far: each has its own prompts */
};

static const struct device_ops *find_device(const char *name)
{
    for (int i = 0; device_table[i] != NULL; i++)
        if (strcmp(device_table[i]->name, name) == 0)
            return device_table[i];
    return NULL;
}

/* A tier may run on another device where this one is absent; a measurement of it may not. */
static enum err check_device(const struct device_ops *device)
{
    const char *why;

    if (device == NULL || device->usable == NULL || device->usable(&why))
        return ERR_OK;
    return fail(ERR_SETTINGS, "backend \"%s\" cannot run here: %s", device->name, why);
}

/* The one asked for, known or not, else the fastest that this build has for processors. */
static const char *backend_name(const struct bench_options *options)
{
    if (options->backend != NULL)
        return options->backend;
    return find_device("cpu") != NULL ? "cpu" : "ref";
}

static enum tensor_type type_of(const char *name)
{
    return strcmp(name, "f32") == 0    ? TENSOR_F32
           : strcmp(name, "f16") == 0  ? TENSOR_F16
           : strcmp(name, "bf16") == 0 ? TENSOR_BF16
                                       : TENSOR_Q8_0;
}

enum err bench_write(const struct bench_options *options, const char *path)
{
    return random_model_write(path, random_shape_find(options->random), type_of(options->type),
                              options->seed);
}

/* The file is gone with the process, however that ends. */
static enum err make_random(struct bench *bench)
{
    const char *folder = getenv("TMPDIR");
    char name[512];

    snprintf(name, sizeof(name), "%s/mserve-bench-XXXXXX", folder != NULL ? folder : "/tmp");
    bench->file = mkostemp(name, O_CLOEXEC);
    if (bench->file < 0)
        return fail(ERR_IO, "%s: %s", name, strerror(errno));
    unlink(name);
    snprintf(bench->path, sizeof(bench->path), "/proc/self/fd/%d", bench->file);
    return bench_write(bench->options, bench->path);
}

static const char *model_path(const struct bench *bench)
{
    return bench->file >= 0 ? bench->path : bench->options->model;
}

static uint32_t most(const struct bench_list *list)
{
    uint32_t value = 0;

    for (uint32_t i = 0; i < list->len; i++)
        value = list->item[i] > value ? list->item[i] : value;
    return value;
}

static enum err open_engine(const struct bench *bench, uint32_t batch, uint32_t context,
                            struct engine **ret)
{
    const struct bench_options *options = bench->options;
    /* A card takes what it has left, which may be less than all sequences could use. */
    const bool on_gpu = strncmp(bench->report.backend, "cuda", 4) == 0;
    const struct engine_options engine = {
        .backend = bench->report.backend,
        .model_path = model_path(bench),
        .sequences_max = batch,
        .waiting_max = batch,
        .rows_max = bench->report.rows_max,
        .context_max = context,
        .kv_tokens = on_gpu ? 0 : (uint64_t)batch * ((context + BLOCK - 1) / BLOCK * BLOCK),
        .kv = options->fp8      ? ENGINE_KV_FP8
              : options->kv_f32 ? ENGINE_KV_F32
                                : ENGINE_KV_HALF,
        .weights = options->fp8 ? ENGINE_WEIGHTS_FP8 : ENGINE_WEIGHTS_AUTO,
        .threads = bench->report.threads,
        .sim = {.fixed_ns = 2000000, .row_ns = 100000, .kv_ns = 30000, .head_ns = 10000},
    };

    return engine_open(&engine, ret);
}

static struct report_row *add_row(struct bench *bench, const char *name, uint32_t batch,
                                  uint32_t prompt)
{
    struct report *report = &bench->report;
    struct report_row *row;

    report->row = xrealloc(report->row, report->rows + 1, sizeof(*report->row));
    row = &report->row[report->rows++];
    *row = (struct report_row){
        .name = name, .batch = batch, .prompt = prompt, .output = bench->options->output};
    return row;
}

static enum err measure_steady(struct bench *bench, struct engine *engine, uint32_t batch,
                               uint32_t prompt)
{
    const struct bench_options *options = bench->options;
    const uint32_t rows_max = bench->report.rows_max;
    struct report_row *row = add_row(bench, "prefill", batch, prompt);
    enum err rc = ERR_OK;

    for (; row->samples < options->repeats && rc == ERR_OK; row->samples++)
        rc = measure_prefill(engine, batch, prompt, bench->runs++, &row->sample[row->samples]);
    row = add_row(bench, "decode", batch, prompt);
    for (; row->samples < options->repeats && rc == ERR_OK; row->samples++)
        rc = measure_decode(engine, batch, prompt, options->output, rows_max, bench->runs++,
                            &row->sample[row->samples]);
    return rc;
}

static enum err warm_up(struct bench *bench, struct engine *engine)
{
    const struct bench_request request = {.prompt = WARM_PROMPT, .output = WARM_OUTPUT};
    struct sample sample;

    bench->model = *engine_model(engine);
    return measure_job(engine, &request, 1, false, bench->runs++, &sample);
}

static enum err run_steady(struct bench *bench)
{
    const struct bench_options *options = bench->options;
    const uint32_t batch = most(&options->batches), prompt = most(&options->prompts);
    const uint32_t needed = measure_context(batch, prompt, options->output, bench->report.rows_max);
    const uint32_t least = WARM_PROMPT + WARM_OUTPUT;
    struct engine *engine;
    enum err rc = open_engine(bench, batch, needed > least ? needed : least, &engine);

    if (rc)
        return rc;
    rc = warm_up(bench, engine);
    for (uint32_t p = 0; p < options->prompts.len; p++)
        for (uint32_t b = 0; b < options->batches.len && rc == ERR_OK; b++)
            rc = measure_steady(bench, engine, options->batches.item[b], options->prompts.item[p]);
    engine_close(engine);
    return rc;
}

/* 1/4 to 7/4 of a size, and the size on average. */
static uint32_t around(uint32_t size, uint32_t number)
{
    const uint32_t low = size / 4 > 0 ? size / 4 : 1, high = 2 * size - low;

    return low + number * 2654435761u % (high - low + 1);
}

static void fill_job(const struct bench_options *options, uint32_t prompt,
                     struct bench_request *request, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (options->work == BENCH_SHARED)
            request[i] = (struct bench_request){.prompt = options->shared + prompt,
                                                .output = options->output,
                                                .shared = options->shared};
        else if (options->work == BENCH_EVEN)
            request[i] = (struct bench_request){.prompt = prompt, .output = options->output};
        else
            request[i] = (struct bench_request){.prompt = around(prompt, i),
                                                .output = around(options->output, i / 3 + 1)};
}

static enum err repeat_job(struct bench *bench, struct engine *engine, struct report_row *row,
                           const struct bench_request *request, uint32_t count, bool grouped)
{
    enum err rc = ERR_OK;

    row->requests = count;
    for (; row->samples < bench->options->repeats && rc == ERR_OK; row->samples++)
        rc =
            measure_job(engine, request, count, grouped, bench->runs++, &row->sample[row->samples]);
    return rc;
}

static enum err run_job(struct bench *bench, uint32_t batch, uint32_t prompt)
{
    const struct bench_options *options = bench->options;
    const uint32_t count = options->requests > 0 ? options->requests : 4 * batch;
    const bool shared = options->work == BENCH_SHARED;
    const char *name = shared ? "ungrouped" : options->work == BENCH_EVEN ? "even" : "mixed";
    const uint32_t context = shared ? options->shared + prompt + options->output
                             : options->work == BENCH_EVEN ? prompt + options->output
                                                           : 2 * (prompt + options->output);
    struct bench_request *request = xcalloc(count, sizeof(*request));
    const uint32_t least = WARM_PROMPT + WARM_OUTPUT;
    struct engine *engine = NULL;
    enum err rc = open_engine(bench, batch, context > least ? context : least, &engine);

    if (rc == ERR_OK)
        rc = warm_up(bench, engine);
    fill_job(options, prompt, request, count);
    if (rc == ERR_OK)
        rc = repeat_job(bench, engine, add_row(bench, name, batch, prompt), request, count, false);
    if (rc == ERR_OK && shared)
        rc = repeat_job(bench, engine, add_row(bench, "grouped", batch, prompt), request, count,
                        true);
    engine_close(engine);
    free(request);
    return rc;
}

static enum err run_all(struct bench *bench)
{
    const struct bench_options *options = bench->options;
    enum err rc = ERR_OK;

    if (options->work == BENCH_STEADY)
        return run_steady(bench);
    for (uint32_t p = 0; p < options->prompts.len; p++)
        for (uint32_t b = 0; b < options->batches.len && rc == ERR_OK; b++)
            rc = run_job(bench, options->batches.item[b], options->prompts.item[p]);
    return rc;
}

/* Counts its weights, once; the engine checks it anyway. */
static enum err look_at_model(struct bench *bench)
{
    struct model *model;
    enum err rc = model_open(model_path(bench), &model);

    if (rc)
        return rc;
    bench->report.workload = workload_of(model, bench->options->kv_f32);
    model_close(model);
    return ERR_OK;
}

static void describe(struct bench *bench)
{
    const struct bench_options *options = bench->options;
    struct report *report = &bench->report;
    const uint32_t batch = most(&options->batches);

    machine_describe(&report->machine);
    report->backend = backend_name(options);
    report->threads = options->threads > 0 ? options->threads : report->machine.cores;
    report->rows_max = options->rows_max > batch ? options->rows_max : batch + 1;
    report->file = options->model;
    report->model = &bench->model;
    report->workload.type = "";
    report->simulated = strcmp(report->backend, "sim") == 0;
}

enum err bench_run(const struct bench_options *options,
                   void (*print)(const struct report *report, void *arg), void *arg)
{
    struct bench bench = {.options = options, .file = -1};
    const struct device_ops *device;
    enum err rc = ERR_OK;

    describe(&bench);
    device = find_device(bench.report.backend);
    rc = check_device(device);
    if (rc == ERR_OK && options->random != NULL)
        rc = make_random(&bench);
    if (rc == ERR_OK && device != NULL && device->needs_model)
        rc = look_at_model(&bench);
    if (rc == ERR_OK)
        rc = run_all(&bench);
    if (rc == ERR_OK && !options->no_ceilings)
        bench.report.ceilings = ceilings_measure(bench.report.threads, bench.report.ceiling);
    if (rc == ERR_OK)
        print(&bench.report, arg);
    free(bench.report.row);
    if (bench.file >= 0)
        close(bench.file);
    return rc;
}
