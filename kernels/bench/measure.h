/*
 * measure.h: an engine at work, timed. What reads prompts and what writes tokens are measured apart,
 * as they are bound by different things, each by the wall clock around the engine and by the
 * device's own clock inside it.
 *
 *     prefill   `batch` prompts are read, with one token each, from the first submission to the last
 *               event
 *     decode    `output` steps of `batch` rows each, from the moment that the last prompt has been
 *               read. Prompts that were read in earlier steps have some tokens more by then, so
 *               contexts are at the least prompt + 1 to prompt + output
 *     job       a list of requests of any lengths, from the first submission to the last event, with
 *               the engine kept full
 *
 * Ids of prompts are random, sampling is greedy, end tokens do not end.
 */
#ifndef MSERVE_KERNELS_BENCH_MEASURE_H
#define MSERVE_KERNELS_BENCH_MEASURE_H

#include "kernels/engine.h"

#include <stdint.h>

enum bench_part { BENCH_FIXED, BENCH_LINEAR, BENCH_ATTENTION, BENCH_HEAD, BENCH_PARTS };

/* What one run of one phase took. */
struct sample {
    uint64_t wall_ns;
    uint64_t cpu_ns;    /* of all threads of the process, waiting ones that spin as well */
    uint64_t device_ns; /* by the engine's clock, from the first step to the last, with gaps */
    uint64_t part_ns[BENCH_PARTS];
    uint64_t steps;
    uint64_t rows;
    uint64_t kv;     /* KV tokens that attention touched */
    uint64_t wanted; /* rows that were sampled */
    uint64_t prompt; /* tokens read */
    uint64_t output; /* tokens written */
    uint64_t cached; /* tokens of prompts that were found in the KV cache */
    double others;   /* share of all cores that other processes used */
    double running;  /* sequences at once, mean over the steps */
};

struct bench_request {
    uint32_t prompt; /* its tokens */
    uint32_t output;
    uint32_t shared; /* the first of them are the same in all requests of the job */
};

/* `run` numbers the runs: each has its own prompts. ERR_USAGE when a request does not fit. */
enum err measure_prefill(struct engine *engine, uint32_t batch, uint32_t prompt, uint32_t run,
                         struct sample *ret);
enum err measure_decode(struct engine *engine, uint32_t batch, uint32_t prompt, uint32_t output,
                        uint32_t rows_max, uint32_t run, struct sample *ret);
enum err measure_job(struct engine *engine, const struct bench_request *request, uint32_t count,
                     bool grouped, uint32_t run, struct sample *ret);

/* The tokens that a sequence of measure_decode() may come to have. */
uint32_t measure_context(uint32_t batch, uint32_t prompt, uint32_t output, uint32_t rows_max);

#endif
