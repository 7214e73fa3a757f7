/* nvml.c: one call a number; what is not given is left out. */
#include "kernels/cuda/nvml.h"

#include <stdio.h>
#include <string.h>

static void look_up(struct nvml *nvml)
{
    struct nvml_functions *call = &nvml->call;

    /* C has no cast from an object's pointer to a function's; POSIX says that they look alike. */
#define X(name, symbol, parameters)                                                                \
    {                                                                                              \
        void *found = library_symbol(&nvml->library, symbol);                                      \
        memcpy(&call->name, &found, sizeof(found));                                                \
    }
    NVML_FUNCTIONS(X)
#undef X
}

/* Those without which there is nothing to ask. */
static bool has_all(const struct nvml_functions *call)
{
    return call->init && call->shutdown && call->by_bus && call->by_uuid;
}

/* A card that is gone already has no handle; its own loss is told by nvml_read(). */
static bool find_card(struct nvml *nvml, const char *bus, const char *uuid, char *why)
{
    int rc = NVML_NOT_FOUND;

    if (bus && bus[0])
        rc = nvml->call.by_bus(bus, &nvml->card);
    if (rc != NVML_OK && uuid && uuid[0])
        rc = nvml->call.by_uuid(uuid, &nvml->card);
    if (rc != NVML_OK)
        snprintf(why, LIBRARY_WHY_SIZE, "NVML knows no card %s (error %d)",
                 uuid && uuid[0] ? uuid : bus, rc);
    return rc == NVML_OK;
}

static void watch_xids(struct nvml *nvml)
{
    const struct nvml_functions *call = &nvml->call;

    if (!call->set_new || !call->set_free || !call->watch || !call->wait ||
        call->set_new(&nvml->set) != NVML_OK) {
        nvml->set = NULL;
        return;
    }
    if (call->watch(nvml->card, NVML_EVENT_XID, nvml->set) == NVML_OK)
        return;
    call->set_free(nvml->set);
    nvml->set = NULL;
}

bool nvml_open(const struct gpu_module *module, const char *bus, const char *uuid, struct nvml *ret,
               char why[LIBRARY_WHY_SIZE])
{
    int rc;

    memset(ret, 0, sizeof(*ret));
    if (!library_open(&library_nvml, module, &ret->library, why))
        return false;
    look_up(ret);
    if (!has_all(&ret->call)) {
        snprintf(why, LIBRARY_WHY_SIZE, "%s is too old: it lacks functions", ret->library.path);
        nvml_close(ret);
        return false;
    }
    rc = ret->call.init();
    if (rc != NVML_OK)
        snprintf(why, LIBRARY_WHY_SIZE, "NVML did not start (error %d)", rc);
    ret->begun = rc == NVML_OK;
    if (!ret->begun || !find_card(ret, bus, uuid, why)) {
        nvml_close(ret);
        return false;
    }
    watch_xids(ret);
    return true;
}

/* True when the number is there; a card that is lost says so to whatever is asked. */
static bool got(struct nvml_reading *ret, int rc, unsigned bit)
{
    ret->lost |= rc == NVML_GPU_IS_LOST;
    ret->reset_required |= rc == NVML_RESET_REQUIRED;
    if (rc == NVML_OK)
        ret->has |= bit;
    return rc == NVML_OK;
}

static void read_gauges(const struct nvml *nvml, struct nvml_reading *ret)
{
    const struct nvml_functions *call = &nvml->call;
    struct nvml_memory memory;
    struct nvml_load load;
    unsigned number;

    if (call->memory && got(ret, call->memory(nvml->card, &memory), NVML_HAS_MEMORY)) {
        ret->memory_used_bytes = memory.used;
        ret->memory_bytes = memory.total;
    }
    if (call->load && got(ret, call->load(nvml->card, &load), NVML_HAS_LOAD))
        ret->load_percent = load.gpu;
    if (call->power && got(ret, call->power(nvml->card, &number), NVML_HAS_POWER))
        ret->power_mw = number;
    if (call->temperature &&
        got(ret, call->temperature(nvml->card, NVML_DIE, &number), NVML_HAS_TEMPERATURE))
        ret->temperature_c = number;
}

static void read_errors(const struct nvml *nvml, struct nvml_reading *ret)
{
    const struct nvml_functions *call = &nvml->call;
    unsigned corrected, uncorrected, pending, failed;
    unsigned long long number;

    if (call->ecc &&
        got(ret, call->ecc(nvml->card, NVML_UNCORRECTED, NVML_VOLATILE, &number), NVML_HAS_ECC))
        ret->ecc_uncorrected = number;
    if (call->remapped &&
        got(ret, call->remapped(nvml->card, &corrected, &uncorrected, &pending, &failed),
            NVML_HAS_REMAPPED)) {
        ret->remap_pending = pending != 0;
        ret->remap_failed = failed != 0;
    }
    if (call->throttle && got(ret, call->throttle(nvml->card, &number), NVML_HAS_THROTTLE))
        ret->throttle = number;
}

static void read_xids(const struct nvml *nvml, struct nvml_reading *ret)
{
    struct nvml_event event;

    if (!nvml->set)
        return;
    ret->has |= NVML_HAS_XIDS;
    while (ret->xids < NVML_XIDS) {
        memset(&event, 0, sizeof(event));
        if (nvml->call.wait(nvml->set, &event, 0) != NVML_OK)
            return;
        if (event.type & NVML_EVENT_XID)
            ret->xid[ret->xids++] = (uint32_t)event.data;
    }
}

void nvml_read(const struct nvml *nvml, struct nvml_reading *ret)
{
    memset(ret, 0, sizeof(*ret));
    read_xids(nvml, ret); /* first: what happened before the numbers were taken */
    read_gauges(nvml, ret);
    read_errors(nvml, ret);
}

void nvml_close(struct nvml *nvml)
{
    if (nvml->set)
        nvml->call.set_free(nvml->set);
    if (nvml->begun)
        nvml->call.shutdown();
    library_close(&nvml->library);
    memset(nvml, 0, sizeof(*nvml));
}
