/*
 * bench_ref.c: tokens per second of the reference backend, through the engine. "read" is prompts of
 * 480 ids with one token each, "write" 480 tokens after 8 ids.
 *
 *     bench_ref THREADS MODEL.gguf...
 *
 * Prints one line a run, as key=value, after the CPU's name. On a busy machine tokens per second of
 * CPU time (tokens_per_cpu_s, of all threads together) is the steadier figure. A model that is not
 * there is left out, saying so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/engine.h"

struct run {
    const char *name;
    uint32_t sequences;
    uint32_t prompt;
    uint32_t output;
};

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_cpu(void)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "model name", 10) == 0) {
            printf("cpu=\"%.*s\"\n", (int)strcspn(strchr(line, ':') + 2, "\n"),
                   strchr(line, ':') + 2);
            break;
        }
    if (file != NULL)
        fclose(file);
}

static struct engine *open_engine(const char *model, uint32_t threads, const struct run *run)
{
    const struct engine_options options = {
        .backend = "ref",
        .model_path = model,
        .sequences_max = run->sequences,
        .waiting_max = run->sequences,
        .rows_max = 512,
        .context_max = 512,
        .threads = threads,
    };
    struct engine *engine = NULL;

    if (engine_open(&options, &engine) != ERR_OK)
        exit(1);
    return engine;
}

static void submit(struct engine *engine, const struct run *run)
{
    uint32_t vocab = engine_model(engine)->vocab;
    uint32_t prompt[512];

    for (uint32_t i = 0; i < run->sequences; i++) {
        const struct engine_request request = {
            .tag = i,
            .prompt = prompt,
            .prompt_len = run->prompt,
            .tokens_max = run->output,
            .sampling = {.top_p = 1},
            .ignore_eos = true,
        };

        for (uint32_t k = 0; k < run->prompt; k++)
            prompt[k] = (i + k * 7919) % vocab;
        if (engine_submit(engine, &request) != ERR_OK)
            exit(1);
    }
}

static void measure(const char *model, uint32_t threads, const struct run *run)
{
    struct engine *engine = open_engine(model, threads, run);
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    double tokens = (double)run->sequences * (run->prompt + run->output);
    const char *name = strrchr(model, '/');
    struct engine_step_info info = {0};
    struct engine_event event;

    submit(engine, run);
    while (!info.idle) {
        if (engine_step(engine, &info) != ERR_OK)
            exit(1);
        while (engine_poll(engine, &event))
            ;
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("run=%s model=%s threads=%u sequences=%u prompt=%u output=%u tokens_per_s=%.0f "
           "tokens_per_cpu_s=%.0f\n",
           run->name, name != NULL ? name + 1 : model, threads, run->sequences, run->prompt,
           run->output, tokens / wall, tokens / cpu);
    engine_close(engine);
}

int main(int argc, char **argv)
{
    const struct run runs[] = {
        {"read", 32, 480, 1}, {"write", 1, 8, 480}, {"write", 8, 8, 480}, {"write", 32, 8, 480}};

    if (argc < 3)
        return 1;
    print_cpu();
    for (int i = 2; i < argc; i++) {
        if (access(argv[i], R_OK) != 0) {
            printf("left out: %s is not there\n", argv[i]);
            continue;
        }
        for (size_t run = 0; run < sizeof(runs) / sizeof(runs[0]); run++)
            measure(argv[i], (uint32_t)strtoul(argv[1], NULL, 10), &runs[run]);
    }
    return 0;
}
