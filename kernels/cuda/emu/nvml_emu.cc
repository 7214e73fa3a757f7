/*
 * nvml_emu.cc: NVML of the emulated cards. They are well, unless the file that nvml= of MSERVE_EMU
 * names says otherwise; it is read at each call, so that a test makes a card sick while it works.
 *
 *     memory_used_mib=300        a line each; what is not there is 0
 *     utilisation=97             percent
 *     power_mw=650000
 *     temperature=61
 *     ecc_uncorrected=1
 *     remap_pending=1
 *     remap_failed=1
 *     throttle=8                 NVML's bits
 *     lost=1                     it fell off the bus: no question is answered
 *     xid=79                     any number of them, each told once to those who watch by then
 *     card=1                     what follows is of that card alone; before it, of all
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/emu/gpu_emu.cuh"
#include "kernels/cuda/emu/settings.cuh"
#include "kernels/cuda/emu/symbols.cuh"
#include "kernels/cuda/nvml.h"

enum { XIDS_MAX = 64 };

/* A handle is the number of the card and one: never NULL. A set is of one card. */
struct nvml_set {
    uint32_t card;
    uint32_t told;
    bool watched;
};

struct told {
    uint64_t memory_used_mib, utilisation, power_mw, temperature, ecc_uncorrected, remap_pending,
        remap_failed, throttle, lost;
    uint64_t xid[XIDS_MAX];
    uint32_t xids;
};

static const struct told_row {
    const char *key;
    uint64_t told::*field;
} told_rows[] = {
    {"memory_used_mib", &told::memory_used_mib},
    {"utilisation", &told::utilisation},
    {"power_mw", &told::power_mw},
    {"temperature", &told::temperature},
    {"ecc_uncorrected", &told::ecc_uncorrected},
    {"remap_pending", &told::remap_pending},
    {"remap_failed", &told::remap_failed},
    {"throttle", &told::throttle},
    {"lost", &told::lost},
};

static uint32_t number_of(struct nvml_card *card)
{
    return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(card)) - 1;
}

static void read_line(const char *key, uint64_t value, struct told *ret)
{
    if (strcmp(key, "xid") == 0 && ret->xids < XIDS_MAX)
        ret->xid[ret->xids++] = value;
    for (const struct told_row &row : told_rows)
        if (strcmp(row.key, key) == 0)
            ret->*row.field = value;
}

/* What the file says of one card; its number of an error that each question has. */
static int ask(uint32_t card, struct told *ret)
{
    struct emu_settings settings;
    unsigned long long value, of_card = card;
    const char *why;
    char key[64];
    FILE *file;

    memset(ret, 0, sizeof(*ret));
    if (!emu_settings_read(&settings, &why))
        return NVML_UNKNOWN;
    file = settings.nvml[0] != '\0' ? fopen(settings.nvml, "r") : NULL;
    while (file != NULL && fscanf(file, " %63[a-z_]=%llu", key, &value) == 2) {
        if (strcmp(key, "card") == 0)
            of_card = value;
        else if (of_card == card)
            read_line(key, value, ret);
    }
    if (file != NULL)
        fclose(file);
    return ret->lost ? NVML_GPU_IS_LOST : NVML_OK;
}

/* The card whose bus or UUID this is. */
static int find(const char *name, bool by_uuid, struct nvml_card **card)
{
    struct emu_settings settings;
    struct gpu_about about;
    const char *why;

    if (!emu_settings_read(&settings, &why))
        return NVML_UNKNOWN;
    for (uint32_t i = 0; i < settings.devices; i++) {
        emu_describe(i, &settings, &about);
        if (strcmp(by_uuid ? about.uuid : about.bus, name) == 0) {
            *card = reinterpret_cast<struct nvml_card *>(static_cast<uintptr_t>(i) + 1);
            return NVML_OK;
        }
    }
    return NVML_NOT_FOUND;
}

extern "C" {

int emu_nvmlInit_v2(void)
{
    return NVML_OK;
}

int emu_nvmlShutdown(void)
{
    return NVML_OK;
}

int emu_nvmlDeviceGetHandleByPciBusId_v2(const char *bus, struct nvml_card **card)
{
    return find(bus, false, card);
}

int emu_nvmlDeviceGetHandleByUUID(const char *uuid, struct nvml_card **card)
{
    return find(uuid, true, card);
}

int emu_nvmlDeviceGetMemoryInfo(struct nvml_card *card, struct nvml_memory *memory)
{
    struct emu_settings settings;
    const char *why;
    struct told told;
    int rc = ask(number_of(card), &told);

    if (rc == NVML_OK && !emu_settings_read(&settings, &why))
        rc = NVML_UNKNOWN;
    if (rc != NVML_OK)
        return rc;
    memory->total = settings.memory_mib << 20;
    memory->used = told.memory_used_mib << 20;
    memory->free = memory->total > memory->used ? memory->total - memory->used : 0;
    return NVML_OK;
}

int emu_nvmlDeviceGetUtilizationRates(struct nvml_card *card, struct nvml_load *load)
{
    struct told told;
    int rc = ask(number_of(card), &told);

    load->gpu = load->memory = static_cast<unsigned>(told.utilisation);
    return rc;
}

int emu_nvmlDeviceGetPowerUsage(struct nvml_card *card, unsigned *milliwatts)
{
    struct told told;
    int rc = ask(number_of(card), &told);

    *milliwatts = static_cast<unsigned>(told.power_mw);
    return rc;
}

int emu_nvmlDeviceGetTemperature(struct nvml_card *card, unsigned, unsigned *celsius)
{
    struct told told;
    int rc = ask(number_of(card), &told);

    *celsius = static_cast<unsigned>(told.temperature);
    return rc;
}

int emu_nvmlDeviceGetTotalEccErrors(struct nvml_card *card, unsigned, unsigned,
                                    unsigned long long *count)
{
    struct told told;
    int rc = ask(number_of(card), &told);

    *count = told.ecc_uncorrected;
    return rc;
}

int emu_nvmlDeviceGetRemappedRows(struct nvml_card *card, unsigned *corrected,
                                  unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    struct told told;
    int rc = ask(number_of(card), &told);

    *corrected = *uncorrected = 0;
    *pending = told.remap_pending != 0;
    *failed = told.remap_failed != 0;
    return rc;
}

int emu_nvmlDeviceGetCurrentClocksThrottleReasons(struct nvml_card *card,
                                                  unsigned long long *reasons)
{
    struct told told;
    int rc = ask(number_of(card), &told);

    *reasons = told.throttle;
    return rc;
}

int emu_nvmlEventSetCreate(struct nvml_set **set)
{
    *set = static_cast<struct nvml_set *>(calloc(1, sizeof(**set)));
    return *set != NULL ? NVML_OK : NVML_UNKNOWN;
}

int emu_nvmlEventSetFree(struct nvml_set *set)
{
    free(set);
    return NVML_OK;
}

/* What happened before is not told. */
int emu_nvmlDeviceRegisterEvents(struct nvml_card *card, unsigned long long types,
                                 struct nvml_set *set)
{
    struct told told;

    ask(number_of(card), &told);
    set->card = number_of(card);
    set->told = told.xids;
    set->watched = (types & NVML_EVENT_XID) != 0;
    return NVML_OK;
}

int emu_nvmlEventSetWait_v2(struct nvml_set *set, struct nvml_event *event, unsigned)
{
    struct told told;

    ask(set->card, &told);
    if (!set->watched || set->told >= told.xids)
        return NVML_TIMED_OUT;
    event->card = reinterpret_cast<struct nvml_card *>(static_cast<uintptr_t>(set->card) + 1);
    event->type = NVML_EVENT_XID;
    event->data = told.xid[set->told++];
    return NVML_OK;
}
}
