/*
 * gpu.h: the GPUs of this machine, for whoever chooses one and watches over it. Nothing here runs
 * anything on a card.
 *
 * PROCESSES The driver does not survive fork(): a process that is to fork, and to use a GPU in its
 * children, calls gpu_list() and gpu_memory_free() in a child that ends. gpu_watch_open() is for the
 * process that works.
 */
#ifndef MSERVE_KERNELS_GPU_H
#define MSERVE_KERNELS_GPU_H

#include <stdbool.h>
#include <stdint.h>

enum { GPU_CARDS_MAX = 64, GPU_WHY_SIZE = 768 };

struct gpu_card {
    char name[96]; /* "NVIDIA H200" */
    char uuid[48]; /* "GPU-" and 36 characters */
    char bus[24];
    uint64_t memory_bytes;
};

struct gpu_cards {
    uint32_t count; /* the number of a card is its place here */
    struct gpu_card card[GPU_CARDS_MAX];
    uint32_t driver;        /* 13000 for CUDA 13.0 */
    char why[GPU_WHY_SIZE]; /* none: why, in words */
};

/* Whether a backend of engine_options wants a GPU. */
bool gpu_is_backend(const char *backend);

void gpu_list(const char *backend, struct gpu_cards *ret);

/* Bytes that are free on the card now, this process's own context counted out; 0: not known. */
uint64_t gpu_memory_free(const char *backend, const char *uuid);

/* What the driver says of one card; `has` tells which numbers are there. */
enum gpu_has {
    GPU_HAS_MEMORY = 1 << 0,
    GPU_HAS_LOAD = 1 << 1,
    GPU_HAS_POWER = 1 << 2,
    GPU_HAS_TEMPERATURE = 1 << 3,
    GPU_HAS_ECC = 1 << 4,
    GPU_HAS_SLOWED = 1 << 5,
};

struct gpu_health {
    bool sick;
    char reason[160]; /* of a sick card: "Xid 79: it fell off the bus" */
    unsigned has;
    uint64_t memory_used_bytes, memory_bytes;
    uint32_t load_percent;
    uint32_t power_mw;
    uint32_t temperature_c;
    uint64_t ecc_uncorrected; /* since the driver was loaded or the card reset */
    bool slowed;              /* the hardware runs slower than it could: heat, power, a brake */
    uint32_t xids;            /* since the look before */
    uint32_t xid;             /* the last of them */
};

struct gpu_watch;

/*
 * NULL: the driver tells nothing of the card (no NVML); `why` says so in words. What was wrong with
 * it before is not held against it, but for what says that it must not be used.
 */
struct gpu_watch *gpu_watch_open(const char *backend, const struct gpu_card *card,
                                 char why[GPU_WHY_SIZE]);

/* One thread at a time. A card that is falling off its bus may let it wait for seconds. Once sick a
 * card stays so for this watch. */
void gpu_watch_look(struct gpu_watch *watch, struct gpu_health *ret);

void gpu_watch_close(struct gpu_watch *watch); /* NULL is allowed */

#endif
