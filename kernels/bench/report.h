/*
 * report.h: what was measured, as a table for people and as JSON for programs. Both say on what
 * machine, with how much of it used by others, and what share of the machine's ceilings it is.
 */
#ifndef MSERVE_KERNELS_BENCH_REPORT_H
#define MSERVE_KERNELS_BENCH_REPORT_H

#include "kernels/bench/ceilings.h"
#include "kernels/bench/machine.h"
#include "kernels/bench/measure.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct model; /* kernels/model/model.h */

enum { REPORT_REPEATS_MAX = 100 };

/* What a model's arithmetic comes to: a product and a sum are two operations. */
struct workload {
    const char *type;       /* of most weights: "Q8_0"; "" for a device without a model */
    uint64_t weights;       /* all of them */
    double linear_ops;      /* a row, in the layers' matrices */
    double head_ops;        /* a row that is sampled */
    double attention_ops;   /* a KV token that is touched */
    double linear_bytes;    /* a step, as the file stores them */
    double head_bytes;      /* a step that samples */
    double attention_bytes; /* a KV token that is touched */
};

struct workload workload_of(const struct model *model, bool kv_f32);

/* One line of the table: the same phase, measured several times. */
struct report_row {
    const char *name; /* "prefill" */
    uint32_t batch;
    uint32_t prompt;
    uint32_t output;
    uint32_t requests; /* of a job; else 0 */
    struct sample sample[REPORT_REPEATS_MAX];
    uint32_t samples;
};

struct report {
    struct machine machine;
    uint32_t threads;
    uint32_t rows_max;
    const char *file; /* path, or NULL */
    const char *backend;
    const struct engine_model *model;
    struct workload workload;
    bool simulated; /* time is the device's, no wall's */
    struct ceiling ceiling[CEILINGS_MAX];
    uint32_t ceilings; /* 0: not measured */
    struct report_row *row;
    uint32_t rows;
};

void report_print(const struct report *report, FILE *out);

/* One object. */
void report_write_json(const struct report *report, struct buffer *out);

#endif
