/*
 * probe.c: the program gpu-probe: what tests/gpu/run asks of a machine before it believes any figure.
 *
 *     gpu-probe about      the module, the driver, its GPUs, where cuBLASLt and NVML were found
 *     gpu-probe ceilings   bytes/s of a copy on the card, operations/s of its matrix units
 *     gpu-probe classes    the products of the 8B shape: which algorithms keep a row's bits, and what
 *                          that costs
 *
 * Prints one JSON object. The module is that of MSERVE_GPU_MODULE. On the emulation everything is
 * small, and what it says of speed means nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/json.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/module.h"

enum { COPIES = 10, RUNS = 5, CEILING_BUDGET_MS = 8000, CLASSES_BUDGET_MS = 60000 };

/* What is asked for of a card; of the emulation, which counts in single operations, less. */
struct size {
    size_t copy_bytes;
    uint32_t side, rows; /* of a square product; most rows of a step */
    uint32_t divide;     /* the 8B shape by this */
};

static const struct size of_a_card = {(size_t)1 << 30, 8192, 8192, 1};
static const struct size of_the_emulation = {1 << 16, 32, 32, 256};

struct card {
    const struct gpu_module *module;
    struct gpu_about about[GPUS_MAX];
    uint32_t count, driver;
    const char *why;
    const struct size *size;
};

static void key_text(struct buffer *out, const char *key, const char *text)
{
    json_write_key(out, key);
    json_write_text(out, text);
}

static void key_u64(struct buffer *out, const char *key, uint64_t value)
{
    json_write_key(out, key);
    json_write_u64(out, value);
}

static void write_card(struct buffer *out, const struct gpu_about *about)
{
    json_write_next(out);
    json_write_open(out, '{');
    key_text(out, "name", about->name);
    key_text(out, "uuid", about->uuid);
    key_text(out, "bus", about->bus);
    key_u64(out, "capability", about->capability);
    key_u64(out, "processors", about->processors);
    key_u64(out, "shared_bytes", about->shared_bytes);
    key_u64(out, "l2_bytes", about->l2_bytes);
    key_u64(out, "memory_bytes", about->memory_bytes);
    json_write_close(out, '}');
}

static void write_library(struct buffer *out, const char *key, const struct library_kind *kind,
                          const struct gpu_module *module)
{
    char why[LIBRARY_WHY_SIZE];
    struct library library;
    const bool found = library_open(kind, module, &library, why);

    json_write_key(out, key);
    json_write_open(out, '{');
    key_text(out, "path", found ? library.path : NULL);
    key_text(out, "why", found ? NULL : why);
    json_write_close(out, '}');
    if (found)
        library_close(&library);
}

static int about(const struct card *card, struct buffer *out)
{
    json_write_open(out, '{');
    key_text(out, "module", card->module->name);
    key_u64(out, "runtime", card->module->runtime);
    key_u64(out, "driver", card->driver);
    key_text(out, "why", card->count > 0 ? NULL : card->why);
    json_write_key(out, "gpus");
    json_write_open(out, '[');
    for (uint32_t i = 0; i < card->count; i++)
        write_card(out, &card->about[i]);
    json_write_close(out, ']');
    write_library(out, "cublaslt", &library_cublaslt, card->module);
    write_library(out, "nvml", &library_nvml, card->module);
    json_write_close(out, '}');
    return 0;
}

/* Bytes read and written per second by copies from one place on the card to another; 0: none ran. */
static double copy_rate(const struct gpu_module *module, struct gpu *gpu, size_t bytes)
{
    void *from = module->take(gpu, bytes), *to = module->take(gpu, bytes);
    struct gpu_event *begin = module->event_new(gpu), *end = module->event_new(gpu);
    double best = 0;

    if (from == NULL || to == NULL || begin == NULL || end == NULL)
        return 0;
    module->zero(gpu, from, bytes);
    for (int run = 0; run < RUNS; run++) {
        double rate;

        module->event_record(gpu, begin);
        for (int i = 0; i < COPIES; i++)
            module->copy(gpu, to, from, bytes);
        module->event_record(gpu, end);
        module->event_wait(gpu, end, -1);
        rate = 2.0 * COPIES * (double)bytes / (module->event_ms(gpu, begin, end) / 1e3);
        best = rate > best && rate < 1e15 ? rate : best;
    }
    module->give(gpu, from);
    module->give(gpu, to);
    return best;
}

static struct matmul_set *open_set(const struct card *card, struct gpu *gpu, uint32_t budget_ms)
{
    const struct matmul_options options = {
        .rows_max = card->size->rows, .budget_ms = budget_ms, .no_cache = true};
    struct matmul_set *set = NULL;

    return matmul_set_open(card->module, gpu, &card->about[0], card->driver, &options, &set) ? NULL
                                                                                             : set;
}

/* Operations per second of the fastest product there is, bits or no bits; 0: it cannot be had. */
static double matrix_rate(const struct card *card, struct gpu *gpu, enum number number)
{
    const uint32_t side = card->size->side;
    const struct matmul_shape shape = {side, side, number, NUMBER_BF16, 0};
    struct matmul_set *set = open_set(card, gpu, CEILING_BUDGET_MS);
    const struct matmul_figure *figure;
    struct matmul *matmul;
    const char *why;
    uint32_t count;
    double rate = 0;

    if (set != NULL && matmul_can(set, &shape, &why) &&
        matmul_add(set, &shape, &matmul) == ERR_OK && matmul_tune(set) == ERR_OK) {
        figure = matmul_figures(set, &count);
        for (uint32_t i = 0; i < count; i++) {
            const double ms = figure[i].free_ms > 0 ? figure[i].free_ms : figure[i].ms;
            const double now = ms > 0 ? 2.0 * figure[i].rows * side * side / (ms / 1e3) : 0;

            rate = now > rate ? now : rate;
        }
    }
    matmul_set_close(set);
    return rate;
}

static int ceilings(const struct card *card, struct gpu *gpu, struct buffer *out)
{
    const double bytes = copy_rate(card->module, gpu, card->size->copy_bytes);
    const double bf16 = matrix_rate(card, gpu, NUMBER_BF16);
    const double fp8 = matrix_rate(card, gpu, NUMBER_FP8);

    json_write_open(out, '{');
    json_write_key(out, "copy_bytes_per_s");
    json_write_f64(out, bytes);
    json_write_key(out, "bf16_flops");
    json_write_f64(out, bf16);
    json_write_key(out, "fp8_flops"); /* 0: this card or its library has none */
    json_write_f64(out, fp8);
    json_write_close(out, '}');
    return bytes <= 0 || bf16 <= 0;
}

static void add_shapes(const struct card *card, struct matmul_set *set, enum number number)
{
    static const uint32_t sides[][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
    const uint32_t divide = card->size->divide;
    struct matmul *matmul;
    const char *why;

    for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
        const struct matmul_shape shape = {sides[i][0] / divide, sides[i][1] / divide, number,
                                           NUMBER_BF16, 0};

        if (matmul_can(set, &shape, &why))
            (void)matmul_add(set, &shape, &matmul);
    }
}

static void write_figure(struct buffer *out, const struct matmul_figure *figure)
{
    json_write_next(out);
    json_write_open(out, '{');
    key_u64(out, "outputs", figure->shape.outputs);
    key_u64(out, "inputs", figure->shape.inputs);
    key_text(out, "weight", figure->shape.weight == NUMBER_FP8 ? "fp8" : "bf16");
    key_u64(out, "rows", figure->rows);
    key_u64(out, "run_rows", figure->run_rows);
    key_u64(out, "tried", figure->tried);
    key_u64(out, "admitted", figure->admitted);
    json_write_key(out, "ms");
    json_write_f32(out, figure->ms);
    json_write_key(out, "free_ms");
    json_write_f32(out, figure->free_ms);
    json_write_close(out, '}');
}

static int classes(const struct card *card, struct gpu *gpu, struct buffer *out)
{
    struct matmul_set *set = open_set(card, gpu, CLASSES_BUDGET_MS);
    const struct matmul_figure *figure;
    uint32_t count;

    if (set == NULL)
        return 1;
    add_shapes(card, set, NUMBER_BF16);
    add_shapes(card, set, NUMBER_FP8);
    if (matmul_tune(set) != ERR_OK) {
        matmul_set_close(set);
        return 1;
    }
    json_write_open(out, '{');
    key_text(out, "library", matmul_library(set));
    key_text(out, "fingerprint", matmul_fingerprint(set));
    json_write_key(out, "price");
    json_write_f64(out, matmul_price(set));
    json_write_key(out, "figures");
    json_write_open(out, '[');
    figure = matmul_figures(set, &count);
    for (uint32_t i = 0; i < count; i++)
        write_figure(out, &figure[i]);
    json_write_close(out, ']');
    json_write_close(out, '}');
    matmul_set_close(set);
    return 0;
}

/* What works on the first card, with its faults. */
static int on_card(const struct card *card, struct buffer *out,
                   int (*work)(const struct card *card, struct gpu *gpu, struct buffer *out))
{
    const char *why = card->why;
    struct gpu *gpu = card->module->open(0, &why);
    int status;

    if (gpu == NULL) {
        fprintf(stderr, "gpu-probe: %s\n", why);
        return 1;
    }
    status = work(card, gpu, out);
    why = card->module->fault(gpu);
    if (why != NULL)
        fprintf(stderr, "gpu-probe: %s\n", why);
    status |= why != NULL;
    card->module->close(gpu);
    return status;
}

int main(int argc, char **argv)
{
    static struct card card;
    const char *what = argc == 2 ? argv[1] : "";
    const char *path = getenv("MSERVE_GPU_MODULE");
    char words[MODULE_WHY_SIZE];
    struct buffer out = {0};
    int status = 2;

    if (path == NULL) {
        fprintf(stderr, "gpu-probe: MSERVE_GPU_MODULE names no module\n");
        return 2;
    }
    card.module = module_load(path, words);
    if (card.module == NULL) {
        fprintf(stderr, "gpu-probe: %s\n", words);
        return 1;
    }
    card.size = strcmp(card.module->name, "cuda") == 0 ? &of_a_card : &of_the_emulation;
    card.count = card.module->list(card.about, &card.driver, &card.why);
    if (strcmp(what, "about") == 0)
        status = about(&card, &out);
    else if (strcmp(what, "ceilings") == 0)
        status = on_card(&card, &out, ceilings);
    else if (strcmp(what, "classes") == 0)
        status = on_card(&card, &out, classes);
    else
        fprintf(stderr, "usage: gpu-probe about|ceilings|classes\n");
    if (status == 0)
        puts(out.data);
    buffer_release(&out);
    return status;
}
