/*
 * Bits decide who may run, the clock who does. What was found by an earlier run saves the trying, not
 * the looking: its bits are compared once more.
 */
#include "kernels/cuda/tuner.h"

#include <inttypes.h>
#include <string.h>

#include "config/clock.h"
#include "config/log.h"
#include "kernels/cuda/choices.h"
#include "kernels/cuda/class.h"

enum { CANDIDATES = 16, FREE_CANDIDATES = 4 };

/* One listed number of rows under trial. */
struct trial {
    struct probe *probe;
    struct matmul *matmul;
    const struct multiply_rows *rows;
    const struct blas_algo *base;
    struct choice *choice;
};

static bool out_of_time(const struct matmul_set *set)
{
    return clock_mono_ns() >= set->deadline_ns;
}

static struct choice_record record_of(const struct trial *trial)
{
    const struct matmul *matmul = trial->matmul;
    struct choice_record record = {
        .outputs = matmul->shape.outputs,
        .inputs = matmul->shape.inputs,
        .weight = matmul->shape.weight,
        .out = matmul->shape.out,
        .fast = matmul->set->options.fast_accumulate,
        .rows = trial->rows->rows,
        .algo = trial->choice->algo,
        .ms = trial->choice->ms,
        .free_ms = trial->choice->free_ms,
        .tried = trial->choice->tried,
        .admitted = trial->choice->admitted,
    };

    memcpy(record.class_hash, matmul->class_hash, sizeof(record.class_hash));
    return record;
}

/* Takes an earlier run's choice if it still has the class's bits. */
static bool take_cached(struct trial *trial)
{
    struct choice_record like = record_of(trial);
    const struct choice_record *found = choices_find(trial->matmul->set->choices, &like);

    if (!found || !class_allows(multiply_describe(&trial->matmul->multiply, &found->algo)) ||
        !multiply_fits(&trial->matmul->multiply, trial->rows, &found->algo) ||
        !probe_same(trial->probe, &trial->matmul->multiply, trial->rows, &found->algo, 1))
        return false;
    *trial->choice = (struct choice){
        .algo = found->algo,
        .member = true,
        .cached = true,
        .tried = found->tried,
        .admitted = found->admitted,
        .ms = found->ms,
        .free_ms = found->free_ms,
    };
    return true;
}

static void try_one(struct trial *trial, const struct blas_algo *algo)
{
    const struct multiply *multiply = &trial->matmul->multiply;
    struct choice *choice = trial->choice;
    float ms = 0;

    choice->tried++;
    if (!probe_same(trial->probe, multiply, trial->rows, algo, PROBE_ARRANGEMENTS))
        return;
    choice->admitted++;
    if (!out_of_time(trial->matmul->set))
        ms = probe_time(trial->probe, multiply, trial->rows, algo);
    if (choice->member && (ms <= 0 || (choice->ms > 0 && choice->ms <= ms)))
        return;
    choice->member = true;
    choice->algo = *algo;
    choice->ms = ms;
}

static void try_all(struct trial *trial)
{
    const struct multiply *multiply = &trial->matmul->multiply;
    struct blas_proposal proposal[CANDIDATES];
    uint32_t len = 0;

    if (multiply_fits(multiply, trial->rows, trial->base))
        try_one(trial, trial->base);
    if (!trial->choice->member || !out_of_time(trial->matmul->set))
        len = multiply_propose(multiply, trial->rows, 0, CANDIDATES, proposal);
    for (uint32_t i = 0; i < len; i++) {
        const struct blas_algo *algo = &proposal[i].algo;

        if (trial->choice->member && out_of_time(trial->matmul->set))
            break;
        if (proposal[i].state == BLAS_SUCCESS && proposal[i].workspace_bytes == 0 &&
            memcmp(algo, trial->base, sizeof(*algo)) != 0 &&
            class_allows(multiply_describe(multiply, algo)))
            try_one(trial, algo);
    }
}

/* The fastest there is, with room to work in and any order: what the same bits are measured by. */
static void time_free(struct trial *trial)
{
    const struct multiply *multiply = &trial->matmul->multiply;
    struct blas_proposal proposal[FREE_CANDIDATES];
    uint32_t len = multiply_propose(multiply, trial->rows, trial->probe->workspace_bytes,
                                    FREE_CANDIDATES, proposal);
    float best = trial->choice->ms;

    for (uint32_t i = 0; i < len; i++) {
        float ms = 0;

        if (proposal[i].state == BLAS_SUCCESS &&
            proposal[i].workspace_bytes <= trial->probe->workspace_bytes)
            ms = probe_time(trial->probe, multiply, trial->rows, &proposal[i].algo);
        if (ms > 0 && (best <= 0 || ms < best))
            best = ms;
    }
    trial->choice->free_ms = best;
}

static void tune_rows(struct trial *trial)
{
    struct choice_record record;

    if (take_cached(trial))
        return;
    try_all(trial);
    if (!out_of_time(trial->matmul->set))
        time_free(trial);
    if (trial->choice->member && trial->choice->ms > 0) {
        record = record_of(trial);
        choices_put(trial->matmul->set->choices, &record);
    }
}

/* All listed numbers of rows, the largest first. True: one of them has a member. */
static bool tune_list(struct matmul *matmul, struct probe *probe, const struct blas_algo *base)
{
    bool any = false;

    for (uint32_t i = matmul->len; i-- > 0;) {
        struct trial trial = {probe, matmul, &matmul->rows[i], base, &matmul->choice[i]};

        multiply_rows_close(&matmul->multiply, &matmul->rows[i]); /* of an earlier tuning */
        matmul->choice[i] = (struct choice){0};
        if (!multiply_rows_open(&matmul->multiply, matmul->set->list[i], &matmul->rows[i]))
            continue;
        tune_rows(&trial);
        any = any || matmul->choice[i].member;
    }
    return any;
}

static enum err give_up(struct matmul *matmul)
{
    const struct matmul_shape *shape = &matmul->shape;

    memset(matmul->choice, 0, sizeof(matmul->choice));
    memset(matmul->class_hash, 0, sizeof(matmul->class_hash));
    matmul->own = true;
    if (shape->weight != NUMBER_BF16)
        return fail(
            ERR_DEVICE,
            "cuBLASLt has no algorithm for %s products of %u x %u that gives a row the same "
            "bits in every batch; keep this model's weights as bf16",
            shape->weight == NUMBER_FP8 ? "fp8" : "int8", shape->outputs, shape->inputs);
    log_warn("gpu.product",
             "outputs=%u inputs=%u own_kernel=yes why=\"no algorithm of cuBLASLt keeps "
             "a row's bits\"",
             shape->outputs, shape->inputs);
    return ERR_OK;
}

enum err tune_one(struct matmul *matmul)
{
    struct matmul_set *set = matmul->set;
    struct blas_algo base;
    struct probe probe;
    enum err rc = probe_open(set, &matmul->shape, &probe);
    bool found;

    if (rc)
        return rc;
    found = class_find(&probe, &matmul->multiply, &base);
    if (found) {
        probe_hash(&probe, matmul->class_hash);
        found = tune_list(matmul, &probe, &base);
    }
    probe_close(&probe);
    if (set->module->fault(set->gpu))
        return fail(ERR_DEVICE, "the GPU failed while products of %u x %u were tried: %s",
                    matmul->shape.outputs, matmul->shape.inputs, set->module->fault(set->gpu));
    return found ? ERR_OK : give_up(matmul);
}
