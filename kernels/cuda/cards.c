/* cards.c: what kernels/gpu.h tells of the cards, from the module that has them and from NVML. */
#include "kernels/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "kernels/cuda/health.h"
#include "kernels/cuda/module.h"

_Static_assert((int)GPU_CARDS_MAX == (int)GPUS_MAX, "as many cards as a module lists");
_Static_assert((int)GPU_WHY_SIZE >= (int)LIBRARY_WHY_SIZE, "room for what library_open() says");

/* Hardware slowdown, heat by software and by hardware, power brake: NVML's bits. */
enum { SLOWED = 0x08 | 0x20 | 0x40 | 0x80 };

struct gpu_watch {
    struct nvml nvml;
    struct nvml_reading first;
    bool sick;
    char reason[160];
};

bool gpu_is_backend(const char *backend)
{
    return strcmp(backend, "cuda") == 0 || strcmp(backend, "cuda-emu") == 0;
}

/* --------------------------------------------------------------------------------- the cards ---- */

void gpu_list(const char *backend, struct gpu_cards *ret)
{
    struct gpu_about *about = xcalloc(GPUS_MAX, sizeof(*about));
    const char *why = NULL;
    const struct gpu_module *module = module_open(backend, &why);

    memset(ret, 0, sizeof(*ret));
    if (module)
        ret->count = module->list(about, &ret->driver, &why);
    for (uint32_t i = 0; i < ret->count; i++) {
        struct gpu_card *card = &ret->card[i];

        memcpy(card->name, about[i].name, sizeof(card->name));
        memcpy(card->uuid, about[i].uuid, sizeof(card->uuid));
        memcpy(card->bus, about[i].bus, sizeof(card->bus));
        card->memory_bytes = about[i].memory_bytes;
    }
    if (ret->count == 0)
        snprintf(ret->why, sizeof(ret->why), "%s", why ? why : "there is none");
    free(about);
}

static bool index_of(const struct gpu_module *module, const char *uuid, uint32_t *ret)
{
    struct gpu_about *about = xcalloc(GPUS_MAX, sizeof(*about));
    const char *why;
    uint32_t driver, count = module->list(about, &driver, &why);

    for (*ret = 0; *ret < count && strcmp(about[*ret].uuid, uuid) != 0; ++*ret)
        ;
    free(about);
    return *ret < count;
}

uint64_t gpu_memory_free(const char *backend, const char *uuid)
{
    const char *why;
    const struct gpu_module *module = module_open(backend, &why);
    struct gpu *gpu = NULL;
    uint64_t bytes = 0;
    uint32_t index;

    if (module && index_of(module, uuid, &index))
        gpu = module->open(index, &why);
    if (gpu) {
        bytes = module->memory_free(gpu);
        module->close(gpu);
    }
    return bytes;
}

/* --------------------------------------------------------------------------------- its health ---- */

struct gpu_watch *gpu_watch_open(const char *backend, const struct gpu_card *card,
                                 char why[GPU_WHY_SIZE])
{
    struct gpu_watch *watch = xcalloc(1, sizeof(*watch));
    const char *missing = NULL;
    const struct gpu_module *module = module_open(backend, &missing);

    if (!module) {
        snprintf(why, GPU_WHY_SIZE, "%s", missing ? missing : "there is no such backend");
    } else if (nvml_open(module, card->bus, card->uuid, &watch->nvml, why)) {
        nvml_read(&watch->nvml, &watch->first);
        return watch;
    }
    free(watch);
    return NULL;
}

static unsigned has_of(unsigned has)
{
    static const struct {
        unsigned theirs, ours;
    } bits[] = {{NVML_HAS_MEMORY, GPU_HAS_MEMORY}, {NVML_HAS_LOAD, GPU_HAS_LOAD},
                {NVML_HAS_POWER, GPU_HAS_POWER},   {NVML_HAS_TEMPERATURE, GPU_HAS_TEMPERATURE},
                {NVML_HAS_ECC, GPU_HAS_ECC},       {NVML_HAS_THROTTLE, GPU_HAS_SLOWED}};
    unsigned ret = 0;

    for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
        if (has & bits[i].theirs)
            ret |= bits[i].ours;
    return ret;
}

void gpu_watch_look(struct gpu_watch *watch, struct gpu_health *ret)
{
    struct nvml_reading now;

    nvml_read(&watch->nvml, &now);
    if (!watch->sick)
        watch->sick = health_is_sick(&watch->first, &now, watch->reason, sizeof(watch->reason));
    *ret = (struct gpu_health){
        .sick = watch->sick,
        .has = has_of(now.has),
        .memory_used_bytes = now.memory_used_bytes,
        .memory_bytes = now.memory_bytes,
        .load_percent = now.load_percent,
        .power_mw = now.power_mw,
        .temperature_c = now.temperature_c,
        .ecc_uncorrected = now.ecc_uncorrected,
        .slowed = (now.throttle & SLOWED) != 0,
        .xids = now.xids,
        .xid = now.xids > 0 ? now.xid[now.xids - 1] : 0,
    };
    memcpy(ret->reason, watch->reason, sizeof(ret->reason));
}

void gpu_watch_close(struct gpu_watch *watch)
{
    if (!watch)
        return;
    nvml_close(&watch->nvml);
    free(watch);
}
