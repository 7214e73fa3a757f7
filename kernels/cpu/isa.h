/*
 * isa.h: the instruction sets that products of matrices are written for, and which of them this
 * machine runs. Each level includes those before it. What is compiled does not depend on the machine
 * that compiles; what runs is chosen when a backend is opened.
 */
#ifndef MSERVE_KERNELS_CPU_ISA_H
#define MSERVE_KERNELS_CPU_ISA_H

#include <stdbool.h>
#include <stdint.h>

enum isa {
    ISA_SCALAR,      /* "scalar": C without intrinsics, on any machine */
    ISA_AVX2,        /* "avx2": AVX2, FMA, F16C */
    ISA_AVX512,      /* "avx512": F, BW, VL, DQ and VNNI */
    ISA_AVX512_BF16, /* "avx512_bf16" */
    ISA_COUNT
};

/* What cpuid and xgetbv say. */
struct isa_words {
    uint32_t leaf1_ecx;
    uint32_t leaf7_ebx;
    uint32_t leaf7_ecx;
    uint32_t leaf7_1_eax;
    uint32_t xcr0; /* 0 where the operating system saves no vector registers */
};

/* The highest level of a machine with these answers. */
enum isa isa_of(const struct isa_words *words);

/* The highest level of this machine. */
enum isa isa_best(void);

const char *isa_name(enum isa isa);

/* The level of this name; "" is the best one. False: no such name, or this machine does not run it. */
bool isa_find(const char *name, enum isa *ret);

#endif
