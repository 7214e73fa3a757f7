/*
 * nvml.h: what the driver says of one card: memory, load, power, errors. The handful of NVML's
 * functions that this takes is declared here and looked up at run time (library.h).
 *
 * A number that the card, the driver or a virtual machine does not give is left out, and nobody
 * minds: `has` says which are there. One thread uses an nvml at a time.
 */
#ifndef MSERVE_KERNELS_CUDA_NVML_H
#define MSERVE_KERNELS_CUDA_NVML_H

#include "kernels/cuda/library.h"

#include <stdbool.h>
#include <stdint.h>

/* NVML's own types and numbers, as far as they are wanted; NVML 12 and 13 have the same. */
struct nvml_card; /* nvmlDevice_t is a pointer to it */
struct nvml_set;  /* nvmlEventSet_t */

struct nvml_memory { /* bytes */
    unsigned long long total, free, used;
};

struct nvml_load { /* percent of the last sample period */
    unsigned gpu, memory;
};

struct nvml_event {
    struct nvml_card *card;
    unsigned long long type, data; /* data: the Xid; 999 where it is not known */
    unsigned gpu_instance, compute_instance;
};

enum {
    NVML_OK = 0,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_TIMED_OUT = 10,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_UNKNOWN = 999,
};
enum { NVML_UNCORRECTED = 1, NVML_VOLATILE = 0, NVML_DIE = 0, NVML_EVENT_XID = 8 };

/* name in the table, name in the library, parameters; all return one of the numbers above */
#define NVML_FUNCTIONS(X)                                                                          \
    X(init, "nvmlInit_v2", (void))                                                                 \
    X(shutdown, "nvmlShutdown", (void))                                                            \
    X(by_bus, "nvmlDeviceGetHandleByPciBusId_v2", (const char *bus, struct nvml_card **card))      \
    X(by_uuid, "nvmlDeviceGetHandleByUUID", (const char *uuid, struct nvml_card **card))           \
    X(memory, "nvmlDeviceGetMemoryInfo", (struct nvml_card *, struct nvml_memory *))               \
    X(load, "nvmlDeviceGetUtilizationRates", (struct nvml_card *, struct nvml_load *))             \
    X(power, "nvmlDeviceGetPowerUsage", (struct nvml_card *, unsigned *milliwatts))                \
    X(temperature, "nvmlDeviceGetTemperature",                                                     \
      (struct nvml_card *, unsigned sensor, unsigned *celsius))                                    \
    X(ecc, "nvmlDeviceGetTotalEccErrors",                                                          \
      (struct nvml_card *, unsigned error, unsigned counter, unsigned long long *count))           \
    X(remapped, "nvmlDeviceGetRemappedRows",                                                       \
      (struct nvml_card *, unsigned *corrected, unsigned *uncorrected, unsigned *pending,          \
       unsigned *failed))                                                                          \
    X(throttle, "nvmlDeviceGetCurrentClocksThrottleReasons",                                       \
      (struct nvml_card *, unsigned long long *reasons))                                           \
    X(set_new, "nvmlEventSetCreate", (struct nvml_set **))                                         \
    X(set_free, "nvmlEventSetFree", (struct nvml_set *))                                           \
    X(watch, "nvmlDeviceRegisterEvents",                                                           \
      (struct nvml_card *, unsigned long long types, struct nvml_set *))                           \
    X(wait, "nvmlEventSetWait_v2", (struct nvml_set *, struct nvml_event *, unsigned timeout_ms))

/* The first four are there when nvml_open() is true; any other may be NULL. */
struct nvml_functions {
#define X(name, symbol, parameters) int(*name) parameters;
    NVML_FUNCTIONS(X)
#undef X
};

struct nvml {
    struct library library;
    struct nvml_functions call;
    struct nvml_card *card;
    struct nvml_set *set; /* NULL: Xids are not told */
    bool begun;
};

enum nvml_has {
    NVML_HAS_MEMORY = 1 << 0,
    NVML_HAS_LOAD = 1 << 1,
    NVML_HAS_POWER = 1 << 2,
    NVML_HAS_TEMPERATURE = 1 << 3,
    NVML_HAS_ECC = 1 << 4,
    NVML_HAS_REMAPPED = 1 << 5,
    NVML_HAS_THROTTLE = 1 << 6,
    NVML_HAS_XIDS = 1 << 7,
};

enum { NVML_XIDS = 16 };

struct nvml_reading {
    unsigned has;
    bool lost;           /* the card does not answer: it fell off the bus */
    bool reset_required; /* the driver wants it reset before it works on */
    uint64_t memory_used_bytes, memory_bytes;
    uint32_t load_percent;
    uint32_t power_mw;
    uint32_t temperature_c;
    uint64_t ecc_uncorrected; /* since the driver was loaded or the card reset */
    bool remap_pending;       /* of a row: from the next reset on */
    bool remap_failed;        /* ever */
    uint64_t throttle;        /* NVML's bits */
    uint32_t xids;            /* since the reading before; as many as fit, the first ones */
    uint32_t xid[NVML_XIDS];
};

/*
 * The card by its bus ("00000000:65:00.0"), else by its UUID. `module` may be NULL. False: *ret is
 * empty and `why` says in words what is missing.
 */
bool nvml_open(const struct gpu_module *module, const char *bus, const char *uuid, struct nvml *ret,
               char why[LIBRARY_WHY_SIZE]);

/* Waits for nothing. Some hundred microseconds on a card that is well. */
void nvml_read(const struct nvml *nvml, struct nvml_reading *ret);

void nvml_close(struct nvml *nvml); /* an empty one is allowed */

#endif
