/*
 * alone.c: the requests of a batch file through the engine alone, as a worker would have given them
 * to it: prepared by its code, with the settings of its tier. What `chain_cpu` is measured against.
 *
 *   alone SETTINGS.yaml FILE.jsonl    prints "requests=… seconds=… requests_per_s=… tokens=…"
 *
 * Reading and tokenising are done before the clock starts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/clock.h"
#include "config/log.h"
#include "config/settings.h"
#include "consumer/prepare.h"
#include "consumer/running.h"
#include "kernels/text/chat.h"
#include "producer/line.h"

struct work {
    struct engine *engine;
    struct task **task;
    uint32_t count;
    uint64_t read;    /* tokens */
    uint64_t written; /* tokens */
};

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "alone: %s\n", what);
        exit(1);
    }
}

static struct engine *open_engine(const struct settings *settings)
{
    const struct settings_tier *tier = &settings->tier[0];
    const struct engine_options options = {
        .backend = tier->backend,
        .model_path = tier->model,
        .model_sha256 = tier->sha256[0] ? tier->sha256 : NULL,
        .sequences_max = tier->sequences_max,
        .waiting_max = tier->sequences_max,
        .rows_max = tier->rows_max,
        .context_max = tier->context_max,
        .kv_tokens = tier->kv_tokens,
        .threads = tier->threads ? tier->threads : settings->worker.threads,
    };
    struct engine *engine;

    must(engine_open(&options, &engine) == ERR_OK, "no engine");
    return engine;
}

static struct buffer read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct buffer text = {0};
    size_t got;

    must(file != NULL, path);
    while ((got = fread(buffer_reserve(&text, 1 << 16), 1, 1 << 16, file)) > 0)
        text.len += got;
    fclose(file);
    return text;
}

/* All lines as tasks of one chunk. */
static void prepare_all(struct work *work, const struct prepare_options *options, struct slice text)
{
    const struct line_rules rules = {0};
    struct request_error error;
    struct arena arena = {0};
    struct prepare prepare;
    static struct mailbox home;
    struct claim_job *job = NULL;
    struct claim_chunk *chunk = NULL;

    prepare_init(&prepare, options);
    mailbox_init(&home, -1);
    while (text.len > 0) {
        const char *newline = memchr(text.data, '\n', text.len);
        const size_t len = newline ? (size_t)(newline - text.data) : text.len;
        struct line line;

        must(line_read(&arena, &rules, (struct slice){text.data, len}, &line, &error) == ERR_OK,
             "a line is not valid");
        if (!chunk) {
            job = claim_job_new((struct uuid){{1}}, line.endpoint);
            chunk = claim_chunk_new(claim_partition_new("alone", 0, 1, 1), job, &home);
        }
        work->task = xrealloc(work->task, work->count + 1, sizeof *work->task);
        work->task[work->count] =
            prepare_task(&prepare, chunk, work->count, line.custom_id, line.body);
        must(work->task[work->count++]->state == TASK_READY, "a request cannot run");
        text.data += newline ? len + 1 : len;
        text.len -= newline ? len + 1 : len;
        arena_clear(&arena);
    }
}

/* Fills the engine whenever it has room, until all is done. */
static void run(struct work *work)
{
    static struct gauges gauges;
    struct running running = {.engine = work->engine, .gauges = &gauges};
    struct engine_step_info info = {0};
    struct engine_event event;
    uint32_t next = 0;

    while (next < work->count || !info.idle) {
        while (next < work->count && running_submit(&running, work->task[next], 0) == ERR_OK)
            next++;
        must(engine_step(work->engine, &info) == ERR_OK, "the device failed");
        while (engine_poll(work->engine, &event)) {
            const struct task *task = running_end(&running, &event);

            must(task->status == TASK_COMPLETED, "a request failed");
            work->read += task->cost.prompt_tokens;
            work->written += task->cost.output_tokens;
        }
    }
}

int main(int argc, char **argv)
{
    struct settings *settings;
    struct work work = {0};
    struct buffer text;
    uint64_t begin_ns;
    double seconds;
    const char *chat;

    log_init("alone", LOG_WARN, LOG_LOGFMT, true);
    must(argc == 3, "alone SETTINGS.yaml FILE.jsonl");
    must(settings_load(argv[1], &settings) == ERR_OK && settings->tier_count == 1, argv[1]);
    work.engine = open_engine(settings);
    text = read_file(argv[2]);
    chat = settings->tier[0].chat_format;
    prepare_all(
        &work,
        &(struct prepare_options){.tokenizer = engine_tokenizer(work.engine),
                                  .chat = chat_format_find((struct slice){chat, strlen(chat)}),
                                  .context_max = engine_model(work.engine)->context_max,
                                  .max_tokens_default = settings->tier[0].max_tokens_default},
        buffer_slice(&text));
    begin_ns = clock_mono_ns();
    run(&work);
    seconds = (double)(clock_mono_ns() - begin_ns) / 1e9;
    printf("requests=%u seconds=%.3f requests_per_s=%.1f tokens=%llu numerics=%s\n", work.count,
           seconds, work.count / seconds, (unsigned long long)(work.read + work.written),
           engine_model(work.engine)->numerics_text);
    engine_close(work.engine);
    return 0;
}
