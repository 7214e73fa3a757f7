/*
 * probe.c: the program gpu-probe: what tests/gpu/run asks of a machine before it believes any figure.
 *
 *     gpu-probe about      the module, the driver, its GPUs, where cuBLASLt and NVML were found
 *     gpu-probe ceilings   bytes/s of a copy on the card
 *
 * Prints one JSON object. The module is that of MSERVE_GPU_MODULE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/json.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/module.h"

enum { COPY_BYTES = 1 << 30, COPIES = 10, RUNS = 5 };

struct card {
    const struct gpu_module *module;
    struct gpu_about about[GPUS_MAX];
    uint32_t count, driver;
    const char *why;
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
static double copy_rate(const struct gpu_module *module, struct gpu *gpu)
{
    void *from = module->take(gpu, COPY_BYTES), *to = module->take(gpu, COPY_BYTES);
    struct gpu_event *begin = module->event_new(gpu), *end = module->event_new(gpu);
    double best = 0;

    if (from == NULL || to == NULL || begin == NULL || end == NULL)
        return 0;
    module->zero(gpu, from, COPY_BYTES);
    for (int run = 0; run < RUNS; run++) {
        float ms;

        module->event_record(gpu, begin);
        for (int i = 0; i < COPIES; i++)
            module->copy(gpu, to, from, COPY_BYTES);
        module->event_record(gpu, end);
        module->event_wait(gpu, end, -1);
        ms = module->event_ms(gpu, begin, end);
        if (ms > 0 && 2.0 * COPIES * COPY_BYTES / (ms / 1e3) > best)
            best = 2.0 * COPIES * COPY_BYTES / (ms / 1e3);
    }
    module->give(gpu, from);
    module->give(gpu, to);
    return best;
}

static int ceilings(const struct card *card, struct buffer *out)
{
    const char *why = card->why;
    struct gpu *gpu = card->module->open(0, &why);
    double bytes;

    if (gpu == NULL) {
        fprintf(stderr, "gpu-probe: %s\n", why);
        return 1;
    }
    bytes = copy_rate(card->module, gpu);
    json_write_open(out, '{');
    json_write_key(out, "copy_bytes_per_s");
    json_write_f64(out, bytes);
    json_write_close(out, '}');
    why = card->module->fault(gpu);
    if (why != NULL)
        fprintf(stderr, "gpu-probe: %s\n", why);
    card->module->close(gpu);
    return why != NULL || bytes <= 0;
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
    card.count = card.module->list(card.about, &card.driver, &card.why);
    if (strcmp(what, "about") == 0)
        status = about(&card, &out);
    else if (strcmp(what, "ceilings") == 0)
        status = ceilings(&card, &out);
    else
        fprintf(stderr, "usage: gpu-probe about|ceilings\n");
    if (status == 0)
        puts(out.data);
    buffer_release(&out);
    return status;
}
