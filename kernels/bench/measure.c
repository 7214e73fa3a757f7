/* measure.c: submits, steps, and adds up what the steps say of themselves. */
#include "kernels/bench/measure.h"

#include <stdlib.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/log.h"
#include "kernels/bench/machine.h"

enum { FIRST_ID = 3 }; /* those before it are control tokens in the vocabularies of this kind */

/* A run on its way. */
struct run {
    struct engine *engine;
    struct sample sample;
    struct machine_load load;
    uint64_t begin_ns; /* wall */
    uint64_t cpu_begin_ns;
    uint64_t device_begin_ns; /* of the first step */
    uint64_t device_end_ns;   /* of the last */
    uint64_t sequences;       /* sum over the steps */
};

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void begin(struct run *run)
{
    run->sample = (struct sample){0};
    run->sequences = 0;
    run->load = machine_load();
    run->cpu_begin_ns = cpu_ns();
    run->begin_ns = clock_mono_ns();
}

static void end(struct run *run, struct sample *ret)
{
    const uint64_t end_ns = clock_mono_ns();
    const struct machine_load load = machine_load();

    run->sample.cpu_ns = cpu_ns() - run->cpu_begin_ns;
    run->sample.wall_ns = end_ns - run->begin_ns;
    run->sample.device_ns = run->device_end_ns - run->device_begin_ns;
    run->sample.others = machine_others(&run->load, &load);
    if (run->sample.steps > 0)
        run->sample.running = (double)run->sequences / (double)run->sample.steps;
    *ret = run->sample;
}

static void add_step(struct run *run, const struct engine_step_info *info)
{
    struct sample *sample = &run->sample;

    if (info->rows == 0)
        return;
    if (sample->steps == 0)
        run->device_begin_ns = info->begin_ns;
    run->device_end_ns = info->end_ns;
    sample->part_ns[BENCH_FIXED] += info->fixed_ns;
    sample->part_ns[BENCH_LINEAR] += info->linear_ns;
    sample->part_ns[BENCH_ATTENTION] += info->attention_ns;
    sample->part_ns[BENCH_HEAD] += info->head_ns;
    sample->steps++;
    sample->rows += info->rows;
    sample->kv += info->kv;
    sample->wanted += info->wanted;
    run->sequences += info->sequences;
}

static void take_events(struct run *run)
{
    struct engine_event event;

    while (engine_poll(run->engine, &event)) {
        run->sample.prompt += event.cost.prompt_tokens;
        run->sample.cached += event.cost.cached_tokens;
        run->sample.output += event.cost.output_tokens;
    }
}

/* Different for each run and sequence; `shared` first ids depend on the run alone. */
static void fill_prompt(uint32_t *id, uint32_t len, uint32_t shared, uint32_t run, uint32_t number,
                        uint32_t vocab)
{
    uint64_t random = ((uint64_t)run << 32 | UINT32_MAX) * 2 + 1;

    for (uint32_t i = 0; i < len; i++) {
        if (i == shared)
            random = ((uint64_t)run << 32 | number) * 2 + 1;
        random = random * 6364136223846793005u + 1442695040888963407u;
        id[i] = FIRST_ID + (uint32_t)((random >> 33) % (vocab - FIRST_ID));
    }
}

/* ERR_AGAIN when the engine is full. */
static enum err submit(struct engine *engine, const struct bench_request *wanted, bool grouped,
                       uint32_t run, uint32_t number)
{
    uint32_t *prompt = xcalloc(wanted->prompt, sizeof(*prompt));
    const struct engine_request request = {
        .tag = (uint64_t)run << 32 | number,
        .group = grouped ? (uint64_t)run + 1 : 0,
        .prompt = prompt,
        .prompt_len = wanted->prompt,
        .tokens_max = wanted->output,
        .sampling = {.top_p = 1},
        .ignore_eos = true,
    };
    enum err rc;

    fill_prompt(prompt, wanted->prompt, wanted->shared, run, number, engine_model(engine)->vocab);
    rc = engine_submit(engine, &request);
    free(prompt);
    if (rc == ERR_LIMIT)
        return fail(ERR_USAGE, "%u tokens and %u more do not fit a context of %u", wanted->prompt,
                    wanted->output, engine_model(engine)->context_max);
    return rc;
}

/* Runs until nothing is left; what is not full is filled from the list. */
static enum err run_dry(struct run *run, const struct bench_request *request, uint32_t count,
                        bool grouped, uint32_t number)
{
    struct engine_step_info info = {0};
    uint32_t next = 0;
    enum err rc;

    while (!info.idle || next < count) {
        for (rc = ERR_OK; next < count && rc == ERR_OK; next += rc == ERR_OK)
            rc = submit(run->engine, &request[next], grouped, number, next);
        if (rc != ERR_OK && rc != ERR_AGAIN)
            return rc;
        rc = engine_step(run->engine, &info);
        if (rc)
            return rc;
        add_step(run, &info);
        take_events(run);
    }
    return ERR_OK;
}

enum err measure_job(struct engine *engine, const struct bench_request *request, uint32_t count,
                     bool grouped, uint32_t number, struct sample *ret)
{
    struct run run = {.engine = engine};
    enum err rc;

    begin(&run);
    rc = run_dry(&run, request, count, grouped, number);
    if (rc == ERR_OK)
        end(&run, ret);
    return rc;
}

enum err measure_prefill(struct engine *engine, uint32_t batch, uint32_t prompt, uint32_t number,
                         struct sample *ret)
{
    struct bench_request *request = xcalloc(batch, sizeof(*request));
    enum err rc;

    for (uint32_t i = 0; i < batch; i++)
        request[i] = (struct bench_request){.prompt = prompt, .output = 1};
    rc = measure_job(engine, request, batch, false, number, ret);
    free(request);
    return rc;
}

/* Tokens that the first of the prompts may have written while the last was being read, and those
 * that are on their way when the window ends. */
static uint32_t slack(uint32_t batch, uint32_t prompt, uint32_t rows_max)
{
    const uint32_t free_rows = rows_max > batch ? rows_max - batch : 1;

    return (uint32_t)(((uint64_t)batch * prompt + free_rows - 1) / free_rows) + 4;
}

uint32_t measure_context(uint32_t batch, uint32_t prompt, uint32_t output, uint32_t rows_max)
{
    return prompt + output + slack(batch, prompt, rows_max);
}

/* Steps until all are decoding: the first step of that kind is the first of the window. */
static enum err reach_window(struct run *run, uint32_t batch)
{
    struct engine_step_info info = {0};
    enum err rc;

    while (!(info.rows == batch && info.tokens == batch)) {
        begin(run);
        rc = engine_step(run->engine, &info);
        if (rc)
            return rc;
        if (info.idle)
            return fail(ERR_INTERNAL, "%u sequences never ran side by side", batch);
    }
    add_step(run, &info);
    return ERR_OK;
}

static enum err drain(struct engine *engine, uint32_t batch, uint32_t number)
{
    struct run rest = {.engine = engine};

    for (uint32_t i = 0; i < batch; i++)
        engine_cancel(engine, (uint64_t)number << 32 | i);
    return run_dry(&rest, NULL, 0, false, number);
}

enum err measure_decode(struct engine *engine, uint32_t batch, uint32_t prompt, uint32_t output,
                        uint32_t rows_max, uint32_t number, struct sample *ret)
{
    const struct bench_request request = {
        .prompt = prompt,
        .output = output + slack(batch, prompt, rows_max),
    };
    struct run run = {.engine = engine};
    struct engine_step_info info;
    enum err rc = ERR_OK;

    for (uint32_t i = 0; i < batch && rc == ERR_OK; i++)
        rc = submit(engine, &request, false, number, i);
    if (rc == ERR_OK)
        rc = reach_window(&run, batch);
    while (rc == ERR_OK && run.sample.steps < output) {
        rc = engine_step(engine, &info);
        add_step(&run, &info);
    }
    if (rc)
        return rc;
    run.sample.output = run.sample.rows;
    end(&run, ret);
    return drain(engine, batch, number);
}
