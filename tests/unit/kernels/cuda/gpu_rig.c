/* gpu_rig.c: opens a module once, a gpu for each rig. */
#include "gpu_rig.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const schedules[] = {
    "order=fair,copies=early",
    "order=first,copies=late",
    "order=last,copies=late",
    "order=random,seed=5,copies=early",
};

static const struct gpu_module *module_of_tests(void)
{
    static const struct gpu_module *module;
    const struct gpu_module *(*face)(void);
    const char *path = getenv("MSERVE_GPU_MODULE");
    void *library;

    if (module != NULL)
        return module;
    library = dlopen(path != NULL ? path : EMU_MODULE, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fail_msg("%s", dlerror());
    *(void **)&face = dlsym(library, GPU_MODULE_SYMBOL);
    assert_non_null(face);
    assert_int_equal(face()->face, GPU_FACE);
    module = face();
    return module;
}

struct rig *rig_open_module(const struct gpu_module *module)
{
    static struct gpu_about about[GPUS_MAX];
    struct rig *rig = calloc(1, sizeof(*rig));
    const char *why = "no reason";
    uint32_t driver;

    assert_non_null(rig);
    if (module->list(about, &driver, &why) == 0)
        fail_msg("no GPU: %s", why);
    rig->gpu = module->open(0, &why);
    if (rig->gpu == NULL)
        fail_msg("the GPU does not open: %s", why);
    rig->module = module;
    rig->kernels = module->kernels;
    rig->about = about[0];
    rig->event = module->event_new(rig->gpu);
    assert_non_null(rig->event);
    return rig;
}

struct rig *rig_open(void)
{
    return rig_open_module(module_of_tests());
}

struct rig *rig_open_as(const char *emu)
{
    setenv("MSERVE_EMU", emu, 1);
    return rig_open();
}

const char *rig_schedule(uint32_t index)
{
    uint32_t count = sizeof(schedules) / sizeof(schedules[0]);

    if (strcmp(module_of_tests()->name, "cuda-emu") != 0)
        count = 1;
    return index < count ? schedules[index] : NULL;
}

void rig_close(struct rig *rig)
{
    if (rig == NULL)
        return;
    rig->module->close(rig->gpu);
    free(rig);
}

void *rig_room(struct rig *rig, size_t bytes)
{
    void *room = rig->module->take(rig->gpu, bytes);
    void *nan = malloc(bytes > 0 ? bytes : 1);

    assert_non_null(room);
    assert_non_null(nan);
    memset(nan, 0xff, bytes);
    rig->module->copy(rig->gpu, room, nan, bytes);
    rig_wait(rig);
    free(nan);
    return room;
}

void *rig_put(struct rig *rig, const void *from, size_t bytes)
{
    void *room = rig->module->take(rig->gpu, bytes);

    assert_non_null(room);
    rig->module->copy(rig->gpu, room, from, bytes);
    rig_wait(rig);
    return room;
}

void rig_get(struct rig *rig, void *to, const void *device, size_t bytes)
{
    rig->module->copy(rig->gpu, to, device, bytes);
    rig_wait(rig);
}

struct extent rig_extent(struct rig *rig, uint32_t most, uint32_t len)
{
    return (struct extent){most, rig_put(rig, &len, sizeof(len))};
}

void rig_wait(struct rig *rig)
{
    const char *fault;

    rig->module->event_record(rig->gpu, rig->event);
    assert_true(rig->module->event_wait(rig->gpu, rig->event, -1));
    fault = rig->module->fault(rig->gpu);
    if (fault != NULL)
        fail_msg("the GPU has a fault: %s", fault);
}

uint16_t bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    if (isnan(value))
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float bf16_float(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float number;

    memcpy(&number, &bits, sizeof(number));
    return number;
}

float rig_uniform(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*seed >> 32) * 0x1p-31f;
}

double rig_nmse(const double *want, const float *got, size_t count)
{
    double apart = 0, size = 0;

    for (size_t i = 0; i < count; i++) {
        double difference = want[i] - (double)got[i];
        if (!isfinite(difference))
            return INFINITY;
        apart += difference * difference;
        size += want[i] * want[i];
    }
    if (apart == 0)
        return 0;
    return size > 0 ? apart / size : INFINITY;
}
