/*
 * bench_engine.c: what the engine's core and the simulated device cost per generated token and per
 * request, in CPU time of their one thread. The chain's requests: about 300 ids in and 500 out, up
 * to 1,024 at a time. A second run generates one token each: what a request costs however long it
 * is. With stops, each request has one stop string that never comes.
 *
 * What checkpoints cost: after every step, which is far more often than a worker does it, all live
 * sequences are walked and the ids of those that moved copied, as a checkpoint on disk would. The
 * time of that is compared with the device's time of the steps, whose prices are those of a large
 * model on a large card.
 *
 * Prints one line a run, as key=value, with the CPU's name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/engine.h"

enum { PROMPT = 300, OUTPUT = 500, SEQUENCES = 1024 };

/* 3/4 to 5/4 of it, and it on average: requests that all move in step would flatter caches. */
static uint32_t about(uint32_t size, uint32_t number)
{
    return size - size / 4 + number * 2654435761u % (size / 2 + 1);
}

struct run {
    const char *name;
    uint32_t requests;
    uint32_t tokens_max;
    uint32_t stop_len;
    bool walks; /* a checkpoint after every step */
};

/* What the walks did and took. */
struct walks {
    uint64_t len;
    uint64_t sequences;
    uint64_t ids; /* copied */
    double seconds;
};

static double cpu_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
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

static struct engine *open_engine(void)
{
    const struct engine_options options = {
        .backend = "sim",
        .sequences_max = SEQUENCES,
        .waiting_max = 2 * SEQUENCES,
        .rows_max = 8192,
        .context_max = 1024,
        .sim = {.fixed_ns = 2000000, .row_ns = 9000, .kv_ns = 30000, .head_ns = 1000},
    };
    struct engine *engine = NULL;

    if (engine_open(&options, &engine) != ERR_OK)
        exit(1);
    return engine;
}

static void submit_all(struct engine *engine, const struct run *run, uint32_t *next)
{
    static const struct slice stop[] = {{"0123456789", 10}};
    uint32_t prompt[2 * PROMPT];

    while (*next < run->requests) {
        struct engine_request request = {
            .tag = *next,
            .prompt = prompt,
            .prompt_len = about(PROMPT, *next),
            .tokens_max = about(run->tokens_max, *next / 3),
            .sampling = {.temperature = 1, .top_p = 1, .seed = *next},
            .stop = stop,
            .stop_len = run->stop_len,
        };

        for (uint32_t i = 0; i < request.prompt_len; i++)
            prompt[i] = (*next + i * 7) & 255;
        if (engine_submit(engine, &request) != ERR_OK)
            return;
        ++*next;
    }
}

/* All that a checkpoint takes from the engine; what is in flight is not waited for. */
static void walk(struct engine *engine, struct walks *walks)
{
    static uint32_t copy[2 * (PROMPT + OUTPUT)];
    struct engine_checkpoint live;
    uint32_t cursor = 0;
    double from;

    if (engine_flush(engine) != ERR_OK)
        exit(1);
    from = cpu_seconds();
    while (engine_checkpoint(engine, &cursor, &live)) {
        walks->sequences++;
        if (!live.moved)
            continue;
        memcpy(copy, live.tokens, live.tokens_len * sizeof(*copy));
        walks->ids += live.tokens_len;
    }
    walks->seconds += cpu_seconds() - from;
    walks->len++;
}

/* Returns the tokens generated. */
static uint64_t drive(struct engine *engine, const struct run *run, struct walks *walks)
{
    struct engine_step_info info = {0};
    struct engine_event event;
    uint64_t tokens = 0;
    uint32_t next = 0;

    while (!info.idle) {
        submit_all(engine, run, &next);
        if (engine_step(engine, &info) != ERR_OK)
            exit(1);
        if (run->walks && !info.idle)
            walk(engine, walks);
        while (engine_poll(engine, &event))
            tokens += event.tokens_len;
    }
    return tokens;
}

static void print_walks(const struct engine *engine, const struct walks *walks)
{
    struct engine_books books;

    engine_books(engine, &books);
    printf("checkpoints=%llu sequences=%llu ids=%llu us_per_checkpoint=%.1f us_per_step=%.0f "
           "percent_of_a_step=%.3f\n",
           (unsigned long long)walks->len, (unsigned long long)(walks->sequences / walks->len),
           (unsigned long long)(walks->ids / walks->len), walks->seconds * 1e6 / (double)walks->len,
           (double)books.held_ns / 1e3 / (double)walks->len,
           walks->seconds * 1e11 / (double)books.held_ns);
}

/* With an argument only the run of that name: for a profile. */
int main(int argc, char **argv)
{
    const struct run runs[] = {
        {"chain", 16384, OUTPUT, 0, false},
        {"one_token", 65536, 1, 0, false},
        {"stops", 8192, OUTPUT, 1, false},
        {"checkpoints", 4096, OUTPUT, 0, true},
    };

    print_cpu();
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        if (argc > 1 && strcmp(argv[1], runs[i].name) != 0)
            continue;
        struct engine *engine = open_engine();
        struct walks walks = {0};
        const double from = cpu_seconds();
        const uint64_t tokens = drive(engine, &runs[i], &walks);
        const double seconds = cpu_seconds() - from;

        printf("run=%s requests=%u tokens=%llu ns_per_token=%.2f ns_per_request=%.0f\n",
               runs[i].name, runs[i].requests, (unsigned long long)tokens,
               seconds * 1e9 / (double)tokens, seconds * 1e9 / runs[i].requests);
        if (walks.len > 0)
            print_walks(engine, &walks);
        engine_close(engine);
    }
    return 0;
}
