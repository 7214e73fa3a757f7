/*
 * machine.h: what a figure was measured on: the processor by name, and how much of it others used
 * in the meantime. A figure without these two means nothing to anybody else.
 */
#ifndef MSERVE_KERNELS_BENCH_MACHINE_H
#define MSERVE_KERNELS_BENCH_MACHINE_H

#include <stdint.h>

struct machine {
    char cpu[96]; /* "AMD EPYC", as the processor calls itself */
    uint32_t family;
    uint32_t model;
    uint32_t cores;         /* that this process may use */
    char instructions[160]; /* of those that matter here, what it has: "avx2 fma f16c avx512f" */
};

void machine_describe(struct machine *ret);

/* Processor time since the machine started, and of this process; in ticks of the kernel's. */
struct machine_load {
    uint64_t all;  /* idle or not, of all cores */
    uint64_t busy; /* not idle, and what a hypervisor kept for others */
    uint64_t own;
};

struct machine_load machine_load(void);

/*
 * The share of all cores' time that others used between two moments, 0 to 1. Ticks are 10 ms, so
 * less than a second says little. 0 where the system does not tell.
 */
double machine_others(const struct machine_load *from, const struct machine_load *to);

#endif
