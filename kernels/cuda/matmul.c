/* The set and its products: a run looks up what tuning has chosen, and enqueues it. */
#include "kernels/cuda/matmul.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/log.h"
#include "kernels/cuda/choices.h"
#include "kernels/cuda/class.h"
#include "kernels/cuda/tuner.h"

enum { ROWS_MAX = 65536, SIDE_MAX = 1 << 24, BUDGET_MS = 20000 };

/* ---- the list ---- */

/* 16, 32, 48, 64, 96, 128, 192, 256, 384 … : nothing is padded by more than half from 64 on. */
static void make_list(struct matmul_set *set)
{
    uint32_t last = (set->options.rows_max + LIST_STEP - 1) / LIST_STEP * LIST_STEP;
    uint32_t rows = LIST_STEP;

    while (rows < last) {
        set->list[set->len++] = rows;
        if (rows < 64)
            rows += LIST_STEP;
        else
            rows += rows & (rows - 1) ? rows / 3 : rows / 2;
    }
    set->list[set->len++] = last;
}

static uint32_t list_index(const struct matmul_set *set, uint32_t rows)
{
    uint32_t i = 0;

    while (i + 1 < set->len && set->list[i] < rows)
        i++;
    return i;
}

const uint32_t *matmul_list(const struct matmul_set *set, uint32_t *ret_len)
{
    *ret_len = set->len;
    return set->list;
}

uint32_t matmul_padded(const struct matmul_set *set, uint32_t rows)
{
    return set->list[list_index(set, rows)];
}

/* ---- the library ---- */

static void say_own(struct matmul_set *set, const char *why)
{
    snprintf(set->about_library, sizeof(set->about_library), "own kernel: %s", why);
    log_info("gpu.products", "by=own_kernel why=\"%s\"", why);
}

static void open_library(struct matmul_set *set)
{
    struct multiply_library *library = &set->library;
    char why[LIBRARY_WHY_SIZE];
    const char *missing = "";
    int32_t status;

    if (!library_open(&library_cublaslt, set->module, &set->found, why)) {
        say_own(set, why);
        return;
    }
    if (!blas_load(&set->found, &library->blas, &missing)) {
        snprintf(why, sizeof(why), "%.400s has no %s", set->found.path, missing);
        say_own(set, why);
        return;
    }
    status = library->blas.Create(&library->handle);
    if (status) {
        snprintf(why, sizeof(why), "%.400s could not be started: %s", set->found.path,
                 library->blas.GetStatusString(status));
        library->handle = NULL;
        say_own(set, why);
        return;
    }
    set->blas = true;
    library->stream = set->module->stream(set->gpu);
    library->version = (uint32_t)library->blas.GetVersion();
    library->fast_accumulate = set->options.fast_accumulate;
    snprintf(set->about_library, sizeof(set->about_library), "cuBLASLt %u.%u.%u (%s)",
             library->version / 10000, library->version / 100 % 100, library->version % 100,
             set->found.path);
    log_info("gpu.products", "by=cublaslt version=%u path=%s", library->version, set->found.path);
}

enum err matmul_set_open(const struct gpu_module *module, struct gpu *gpu,
                         const struct gpu_about *about, uint32_t driver,
                         const struct matmul_options *options, struct matmul_set **ret)
{
    struct matmul_set *set;

    if (options->rows_max < 1 || options->rows_max > ROWS_MAX)
        return fail(ERR_LIMIT, "a GPU step of %u rows: 1 to %d are possible", options->rows_max,
                    ROWS_MAX);
    set = calloc(1, sizeof(*set));
    if (!set)
        return fail(ERR_MEMORY, "no memory for the products of a GPU");
    set->module = module;
    set->gpu = gpu;
    set->about = *about;
    set->driver = driver;
    set->options = *options;
    make_list(set);
    set->event_begin = module->event_new(gpu);
    set->event = module->event_new(gpu);
    if (!set->event_begin || !set->event) {
        matmul_set_close(set);
        return fail(ERR_MEMORY, "the GPU has no more events");
    }
    open_library(set);
    *ret = set;
    return ERR_OK;
}

static void matmul_free(struct matmul *matmul)
{
    for (uint32_t i = 0; matmul->multiply.library && i < LIST_MAX; i++)
        multiply_rows_close(&matmul->multiply, &matmul->rows[i]);
    multiply_close(&matmul->multiply);
    free(matmul);
}

void matmul_set_close(struct matmul_set *set)
{
    if (!set)
        return;
    for (struct matmul *next, *matmul = set->first; matmul; matmul = next) {
        next = matmul->next;
        matmul_free(matmul);
    }
    if (set->library.handle)
        set->library.blas.Destroy(set->library.handle);
    library_close(&set->found);
    choices_close(set->choices);
    free(set->figure);
    free(set);
}

const char *matmul_library(const struct matmul_set *set)
{
    return set->about_library;
}

const char *matmul_fault(const struct matmul_set *set)
{
    return set->fault[0] ? set->fault : NULL;
}

/* ---- shapes ---- */

static bool in_table(const struct matmul_shape *shape)
{
    bool bytes = shape->weight == NUMBER_FP8 || shape->weight == NUMBER_INT8;

    if (shape->outputs < 1 || shape->inputs < 8 || shape->outputs > SIDE_MAX ||
        shape->inputs > SIDE_MAX || shape->inputs % (bytes ? 16 : 8) != 0 ||
        (bytes && shape->outputs % 8 != 0))
        return false;
    if (shape->weight == NUMBER_INT8)
        return shape->out == NUMBER_INT32;
    return (shape->weight == NUMBER_BF16 || shape->weight == NUMBER_FP8) &&
           (shape->out == NUMBER_BF16 || shape->out == NUMBER_F32);
}

bool matmul_can(struct matmul_set *set, const struct matmul_shape *shape, const char **ret_why)
{
    struct multiply multiply;
    bool can;

    *ret_why = "a product has no such shape or types";
    if (!in_table(shape))
        return false;
    if (shape->weight == NUMBER_BF16)
        return true;
    *ret_why = set->about_library;
    if (!set->blas)
        return false;
    *ret_why =
        shape->weight == NUMBER_FP8
            ? "this card or its cuBLASLt has no fp8 products with scales for rows and columns"
            : "this card or its cuBLASLt has no int8 products of this shape";
    can = multiply_open(&set->library, shape, &multiply) && class_likely(&multiply);
    multiply_close(&multiply);
    return can;
}

static struct matmul *find(struct matmul_set *set, const struct matmul_shape *shape)
{
    struct matmul *matmul = set->first;

    while (matmul &&
           (matmul->shape.outputs != shape->outputs || matmul->shape.inputs != shape->inputs ||
            matmul->shape.weight != shape->weight || matmul->shape.out != shape->out))
        matmul = matmul->next;
    return matmul;
}

enum err matmul_add(struct matmul_set *set, const struct matmul_shape *shape, struct matmul **ret)
{
    uint32_t rows_max = shape->rows_max && shape->rows_max < set->options.rows_max
                            ? shape->rows_max
                            : set->options.rows_max;
    struct matmul *matmul = find(set, shape);
    const char *why;

    if (!matmul) {
        if (!in_table(shape))
            return fail(ERR_LIMIT, "no product has %u outputs and %u inputs of these types",
                        shape->outputs, shape->inputs);
        if (!matmul_can(set, shape, &why))
            return fail(ERR_DEVICE, "%s", why);
        matmul = calloc(1, sizeof(*matmul));
        if (!matmul)
            return fail(ERR_MEMORY, "no memory for a product of a GPU");
        matmul->set = set;
        matmul->shape = *shape;
        matmul->shape.rows_max = rows_max;
        matmul->next = set->first;
        set->first = matmul;
        matmul->own = !set->blas || !multiply_open(&set->library, shape, &matmul->multiply);
    }
    if (rows_max > matmul->shape.rows_max)
        matmul->shape.rows_max = rows_max;
    matmul->len = list_index(set, matmul->shape.rows_max) + 1;
    *ret = matmul;
    return ERR_OK;
}

size_t matmul_tune_bytes(const struct matmul_set *set)
{
    size_t most = 0;

    for (const struct matmul *matmul = set->first; matmul; matmul = matmul->next) {
        size_t bytes = matmul->own ? 0 : probe_bytes(set, &matmul->shape);

        most = bytes > most ? bytes : most;
    }
    return most;
}

/* ---- tuning ---- */

/* What a product weighs; equal ones in the order of their shapes, so that the order is always one. */
static int compare(const void *left, const void *right)
{
    const struct matmul_shape *a = &(*(struct matmul *const *)left)->shape;
    const struct matmul_shape *b = &(*(struct matmul *const *)right)->shape;
    uint64_t work_a = (uint64_t)a->outputs * a->inputs, work_b = (uint64_t)b->outputs * b->inputs;

    if (work_a != work_b)
        return work_a > work_b ? -1 : 1;
    if (a->outputs != b->outputs)
        return a->outputs > b->outputs ? -1 : 1;
    if (a->weight != b->weight)
        return a->weight > b->weight ? -1 : 1;
    return a->out > b->out ? -1 : a->out < b->out;
}

static uint32_t sorted(struct matmul_set *set, struct matmul ***ret)
{
    struct matmul **all;
    uint32_t len = 0;

    for (struct matmul *matmul = set->first; matmul; matmul = matmul->next)
        len++;
    all = malloc((len + 1) * sizeof(*all));
    *ret = all;
    len = 0;
    for (struct matmul *matmul = set->first; all && matmul; matmul = matmul->next)
        all[len++] = matmul;
    if (all)
        qsort(all, len, sizeof(*all), compare);
    return len;
}

static void make_fingerprint(struct matmul_set *set, struct matmul *const *all, uint32_t len)
{
    struct buffer text = {0};
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];
    bool own = true;

    for (uint32_t i = 0; i < len; i++) {
        const struct matmul_shape *shape = &all[i]->shape;

        buffer_printf(&text, "%u %u %d %d %d %s\n", shape->outputs, shape->inputs, shape->weight,
                      shape->out, all[i]->own, hex_encode(all[i]->class_hash, SHA256_BYTES, hex));
        own = own && all[i]->own;
    }
    sha256_of(buffer_slice(&text), digest);
    snprintf(set->fingerprint, sizeof(set->fingerprint), "products/%.16s",
             own ? "own" : hex_encode(digest, SHA256_BYTES, hex));
    buffer_release(&text);
}

/* The index of what a number of rows is run by: the next with a member; else the largest with one. */
static uint32_t member_for(const struct matmul *matmul, uint32_t rows)
{
    uint32_t first = list_index(matmul->set, rows), i = first;

    while (i < matmul->len && !matmul->choice[i].member)
        i++;
    while (i >= matmul->len || !matmul->choice[i].member)
        i--; /* there is one, or the product is the own kernel's */
    return i;
}

static void add_figures(struct matmul_set *set, const struct matmul *matmul)
{
    for (uint32_t i = 0; i < matmul->len; i++) {
        const struct choice *choice = &matmul->choice[i];
        const uint32_t runs = matmul->own ? 0 : member_for(matmul, set->list[i]);

        set->figure[set->figures++] = (struct matmul_figure){
            .shape = matmul->shape,
            .rows = set->list[i],
            .run_rows = matmul->own ? 0 : set->list[runs],
            .tried = choice->tried,
            .admitted = choice->admitted,
            .ms = matmul->own ? 0 : matmul->choice[runs].ms,
            .free_ms = choice->free_ms,
            .cached = choice->cached,
        };
    }
}

static void open_choices(struct matmul_set *set)
{
    char key[256];

    if (set->options.no_cache)
        return;
    snprintf(key, sizeof(key), "%s; %s; capability %u; processors %u; driver %u; cublaslt %u",
             set->module->name, set->about.name, set->about.capability, set->about.processors,
             set->driver, set->library.version);
    for (char *at = key; *at; at++)
        if (*at == '\n' || *at == '\r')
            *at = ' ';
    set->choices = choices_open(set->options.cache, key);
}

static enum err tune_all(struct matmul_set *set, struct matmul *const *all, uint32_t len)
{
    uint64_t begin_ns = clock_mono_ns();
    uint32_t budget_ms = set->options.budget_ms ? set->options.budget_ms : BUDGET_MS;
    enum err rc = ERR_OK;

    set->deadline_ns = begin_ns + (uint64_t)budget_ms * CLOCK_NS_PER_MS;
    open_choices(set);
    for (uint32_t i = 0; i < len && !rc; i++)
        if (!all[i]->own)
            rc = tune_one(all[i]);
    choices_close(set->choices);
    set->choices = NULL;
    for (uint32_t i = 0; i < len && !rc; i++)
        add_figures(set, all[i]);
    if (!rc && set->blas)
        log_info("gpu.tuned", "shapes=%u ms=%" PRIu64 " price=%.3f", len,
                 (clock_mono_ns() - begin_ns) / CLOCK_NS_PER_MS, matmul_price(set));
    return rc;
}

enum err matmul_tune(struct matmul_set *set)
{
    struct matmul **all;
    uint32_t len = sorted(set, &all);
    enum err rc;

    free(set->figure);
    set->figures = 0;
    set->figure = calloc((size_t)len * LIST_MAX + 1, sizeof(*set->figure));
    if (!all || !set->figure) {
        free(all);
        return fail(ERR_MEMORY, "no memory to tune the products of a GPU");
    }
    rc = tune_all(set, all, len);
    if (!rc)
        make_fingerprint(set, all, len);
    free(all);
    return rc;
}

const char *matmul_fingerprint(const struct matmul_set *set)
{
    return set->fingerprint;
}

const struct matmul_figure *matmul_figures(const struct matmul_set *set, uint32_t *ret_len)
{
    *ret_len = set->figures;
    return set->figure;
}

double matmul_price(const struct matmul_set *set)
{
    double ms = 0, free_ms = 0;

    for (uint32_t i = 0; i < set->figures; i++)
        if (set->figure[i].ms > 0 && set->figure[i].free_ms > 0) {
            ms += (double)set->figure[i].ms;
            free_ms += (double)set->figure[i].free_ms;
        }
    return free_ms > 0 ? ms / free_ms : 0;
}

/* ---- running ---- */

static void run_own(const struct matmul *matmul, const void *weight, const struct prepared *in,
                    void *out, uint32_t rows)
{
    struct product_args args = {
        .rows = rows,
        .outputs = matmul->shape.outputs,
        .inputs = matmul->shape.inputs,
        .a = in->value,
        .b = weight,
        .type = matmul->shape.out,
        .out = out,
    };

    matmul->set->module->kernels->product(matmul->set->gpu, &args);
}

/* Rows from `from` on by the algorithm of the list's entry i. */
static void run_part(const struct matmul *matmul, const struct multiply_call *whole, uint32_t i,
                     uint32_t from)
{
    const struct matmul_shape *shape = &matmul->shape;
    struct matmul_set *set = matmul->set;
    struct multiply_call call = *whole;
    int32_t status;

    call.in = (const char *)whole->in + (size_t)from * shape->inputs * number_bytes(shape->weight);
    call.in_scale = whole->in_scale ? whole->in_scale + from : NULL;
    call.out = (char *)whole->out + (size_t)from * shape->outputs * number_bytes(shape->out);
    status = multiply_run(&matmul->multiply, &matmul->rows[i], &matmul->choice[i].algo, &call);
    if (status && !set->fault[0])
        snprintf(set->fault, sizeof(set->fault), "cuBLASLt refused %u x %u x %u: %s", set->list[i],
                 shape->outputs, shape->inputs, set->library.blas.GetStatusString(status));
}

void matmul_run(const struct matmul *matmul, const void *weight, const float *weight_scale,
                const struct prepared *in, void *out, uint32_t rows)
{
    const struct multiply_call call = {
        .weight = weight,
        .in = in->value,
        .weight_scale = weight_scale,
        .in_scale = in->scale,
        .out = out,
    };
    const uint32_t room = matmul->set->list[matmul->len - 1];

    if (matmul->own) {
        run_own(matmul, weight, in, out, rows);
        return;
    }
    /* One part, but for numbers of rows above the largest that has a member. The last part may begin
     * early, to end in the room there is: rows done twice have the same bits twice. */
    for (uint32_t from = 0; from < rows;) {
        uint32_t i = member_for(matmul, rows - from), len = matmul->set->list[i];

        run_part(matmul, &call, i, from + len <= room ? from : room - len);
        from += len;
    }
}
