/* bench_main.c: the program mserve-bench: how fast the engine is on this machine. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/log.h"
#include "config/options.h"
#include "kernels/bench/bench_run.h"

enum { BATCH_MAX = 4096, TOKENS_MAX = 1 << 20, ROWS_MAX = 65536 };

static struct bench_options bench = {
    .type = "q8_0", .seed = 1, .output = 32, .shared = 512, .rows_max = 512, .repeats = 3};
static const char *batches, *prompts, *work = "steady", *write_path, *completion;
static bool json;

static const struct option rows[] = {
    {"random", 'r', OPTION_CHOICE, "SHAPE", &bench.random,
     .sentence = "A model of random weights of this shape, instead of a file.",
     .choices = "tiny|15m|110m|1.1b|8b"},
    {"type", 0, OPTION_CHOICE, "TYPE", &bench.type,
     .sentence = "What the random weights are stored as; q8_0 without it.",
     .choices = "q8_0|f16|bf16|f32"},
    {"seed", 0, OPTION_U64, "N", &bench.seed, .sentence = "Of the random weights; 1 without it.",
     .max = UINT64_MAX / 4},
    {"write", 0, OPTION_PATH, "FILE", &write_path,
     .sentence = "Writes the random model there and measures nothing."},
    {"backend", 0, OPTION_TEXT, "NAME", &bench.backend,
     .sentence = "ref, cpu, cuda or sim; without it the fastest for processors that this "
                 "build has."},
    {"threads", 't', OPTION_U32, "N", &bench.threads, .sentence = "Without it one a core.",
     .min = 1, .max = 256},
    {"work", 'w', OPTION_CHOICE, "WORK", &work,
     .sentence = "steady: prefill and decode, apart. mixed: a job of requests of many lengths. "
                 "even: one of requests of one length. shared: a job whose prompts begin alike, "
                 "without and with a prefix group.",
     .choices = "steady|mixed|even|shared"},
    {"batch", 'b', OPTION_TEXT, "N,N", &batches,
     .sentence = "Sequences side by side; 1,8,32 without it."},
    {"prompt", 'p', OPTION_TEXT, "N,N", &prompts,
     .sentence = "Tokens of a prompt; 128 without it, 64 for shared work."},
    {"new", 'n', OPTION_U32, "N", &bench.output, .sentence = "Tokens written; 32 without it.",
     .min = 1, .max = TOKENS_MAX},
    {"shared", 0, OPTION_U32, "N", &bench.shared,
     .sentence = "Tokens that all prompts of shared work begin with; 512 without it.", .min = 1,
     .max = TOKENS_MAX},
    {"requests", 0, OPTION_U32, "N", &bench.requests,
     .sentence = "Of all work but steady; four times the batch without it.", .min = 1,
     .max = 1 << 20},
    {"rows", 0, OPTION_U32, "N", &bench.rows_max,
     .sentence = "Most rows (tokens) in a step; 512 without it.", .min = 2, .max = ROWS_MAX},
    {"repeat", 0, OPTION_U32, "N", &bench.repeats,
     .sentence = "Runs of each case, whose median counts; 3 without it.", .min = 1,
     .max = REPORT_REPEATS_MAX},
    {"kv-f32", 0, OPTION_FLAG, NULL, &bench.kv_f32,
     .sentence = "Keys and values as floats, not as halves."},
    {"fp8", 0, OPTION_FLAG, NULL, &bench.fp8,
     .sentence = "On a GPU: weights, keys and values in FP8, not in BF16."},
    {"no-ceilings", 0, OPTION_FLAG, NULL, &bench.no_ceilings,
     .sentence = "Leaves out what the machine could do at most, which takes some seconds."},
    {"json", 'j', OPTION_FLAG, NULL, &json, .sentence = "One JSON object instead of a table."},
    {"completion", 0, OPTION_CHOICE, "SHELL", &completion,
     .sentence = "Prints what this shell needs to complete the program's options.",
     .choices = "bash|zsh|fish"},
};

static const struct options_command command = {
    .name = "mserve-bench",
    .arguments = "[MODEL.gguf]",
    .summary = "Measures how fast the engine reads prompts and writes tokens on this machine, and "
               "what share of the machine's ceilings that is.",
    .details = "Figures of a busy machine say little: the last column is the share of the machine\n"
               "that others used in the meantime.",
    .row = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arguments_max = 1,
    .files = true,
};

/* Whole numbers between commas, `min` to `max` each. */
static enum err read_list(const char *name, const char *text, uint32_t min, uint32_t max,
                          struct bench_list *ret)
{
    const char *at = text;

    for (ret->len = 0; ret->len < BENCH_LIST_MAX; at++) {
        char *end;
        const unsigned long value = strtoul(at, &end, 10);

        if (*at < '0' || *at > '9' || value < min || value > max)
            break;
        ret->item[ret->len++] = (uint32_t)value;
        at = end;
        if (*at == '\0')
            return ERR_OK;
        if (*at != ',')
            break;
    }
    return fail(ERR_USAGE,
                "--%s is \"%.60s\" but must be at most %d whole numbers from %u to %u, with commas "
                "between them.",
                name, text, BENCH_LIST_MAX, min, max);
}

static enum err read_typed(const struct options_rest *rest)
{
    enum err rc;

    bench.model = rest->count > 0 ? rest->argument[0] : NULL;
    bench.work = strcmp(work, "mixed") == 0    ? BENCH_MIXED
                 : strcmp(work, "even") == 0   ? BENCH_EVEN
                 : strcmp(work, "shared") == 0 ? BENCH_SHARED
                                               : BENCH_STEADY;
    if (prompts == NULL)
        prompts = bench.work == BENCH_SHARED ? "64" : "128";
    if (bench.model != NULL && bench.random != NULL)
        return fail(ERR_USAGE, "Give a model's file or --random, not both.");
    if (write_path != NULL && bench.random == NULL)
        return fail(ERR_USAGE, "--write needs --random, which says what to write.");
    if (bench.model == NULL && bench.random == NULL &&
        (bench.backend == NULL || strcmp(bench.backend, "sim") != 0))
        return fail(ERR_USAGE, "A model is missing: give a GGUF file, or --random SHAPE.");
    rc = read_list("batch", batches != NULL ? batches : "1,8,32", 1, BATCH_MAX, &bench.batches);
    return rc ? rc : read_list("prompt", prompts, 2, TOKENS_MAX, &bench.prompts);
}

static void print(const struct report *report, void *arg)
{
    struct buffer out = {0};

    (void)arg;
    if (json) {
        report_write_json(report, &out);
        puts(out.data);
    } else {
        report_print(report, stdout);
    }
    buffer_release(&out);
}

int main(int argc, char **argv)
{
    const struct options_program program = {command.name, command.summary, &command, 1};
    struct options_rest rest;
    enum err rc;

    log_init("mserve-bench", LOG_WARN, LOG_LOGFMT, true);
    rc = options_parse(NULL, &command, argc, argv, &rest);
    if (rc == ERR_OK && !rest.served && completion != NULL)
        rc = options_print_completion(&program, completion, stdout);
    else if (rc == ERR_OK && !rest.served) {
        rc = read_typed(&rest);
        if (rc == ERR_OK)
            rc = write_path != NULL ? bench_write(&bench, write_path)
                                    : bench_run(&bench, print, NULL);
    }
    if ((fflush(stdout) != 0 || ferror(stdout)) && rc == ERR_OK)
        rc = fail(ERR_IO, "standard output: %s", strerror(errno));
    return err_exit_status(rc);
}
