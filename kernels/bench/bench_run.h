/*
 * bench_run.h: from options to a report: the model is found or made, opened, and each case measured
 * as often as was asked.
 */
#ifndef MSERVE_KERNELS_BENCH_BENCH_RUN_H
#define MSERVE_KERNELS_BENCH_BENCH_RUN_H

#include "kernels/bench/report.h"

#include <stdbool.h>
#include <stdint.h>

enum { BENCH_LIST_MAX = 16 };

struct bench_list {
    uint32_t item[BENCH_LIST_MAX];
    uint32_t len;
};

enum bench_work {
    BENCH_STEADY, /* prefill and decode, apart */
    BENCH_MIXED,  /* a job of requests of many lengths */
    BENCH_EVEN,   /* the same, all of one length */
    BENCH_SHARED, /* a job whose prompts begin alike, with and without a prefix group */
};

struct bench_options {
    const char *model;  /* a file, or NULL */
    const char *random; /* name of a shape, or NULL */
    const char *type;   /* of the random weights: "q8_0" */
    uint64_t seed;
    const char *backend; /* NULL: the fastest there is */
    uint32_t threads;    /* 0: one a core */
    struct bench_list batches;
    struct bench_list prompts;
    uint32_t output;
    uint32_t shared;   /* tokens that stand before the prompts of BENCH_SHARED */
    uint32_t requests; /* of a job; 0: four times the batch */
    uint32_t rows_max;
    uint32_t repeats;
    enum bench_work work;
    bool kv_f32;
    bool fp8; /* on a GPU: weights, keys and values */
    bool no_ceilings;
};

/* Makes the random model that the options name. */
enum err bench_write(const struct bench_options *options, const char *path);

/* Everything is measured when it returns; `print` is then called with the report. */
enum err bench_run(const struct bench_options *options,
                   void (*print)(const struct report *report, void *arg), void *arg);

#endif
