/*
 * ceilings.h: how fast this machine is when nothing is in the way: one loop a kind of arithmetic and
 * instruction set, whose operands never leave the registers, and one that reads memory in order. What
 * a kernel reaches is told as a share of these, measured in the same run.
 *
 *     int8     products of 8-bit numbers, summed in 32 bits
 *     int16    the same of 16-bit numbers; `pairs`: two products for one multiplication, as a product
 *              of sums, (a0 + w1)(a1 + w0) = a0 w0 + a1 w1 + a0 a1 + w0 w1
 *     bf16     products of pairs of bfloat16, summed in float
 *     f32      products of floats, summed
 *     read     memory, each byte once, in order, from pages as large as there are
 */
#ifndef MSERVE_KERNELS_BENCH_CEILINGS_H
#define MSERVE_KERNELS_BENCH_CEILINGS_H

#include <stdbool.h>
#include <stdint.h>

struct ceiling {
    const char *kind; /* "int8", "int16", "bf16", "f32", "read" */
    const char *isa;  /* "avx512-vnni", "avx512-bf16", "avx512", "avx2", "sse2"; "" for reads */
    const char *unit; /* "GOP/s" (a product and a sum are two), "GB/s" */
    bool here;        /* false: this machine has no such instructions, `rate` is 0 */
    double rate;      /* of all threads together, the best of several runs */
};

enum { CEILINGS_MAX = 12 };

/*
 * Measures all of them with `threads` threads (0: one a core), each on a core of its own; about a
 * second. Returns how many there are; they come in the same order each time.
 */
uint32_t ceilings_measure(uint32_t threads, struct ceiling ret[CEILINGS_MAX]);

/* The highest of a kind, of one instruction set or of any (NULL); NULL when none was measured. */
const struct ceiling *ceilings_find(const struct ceiling *ceiling, uint32_t count, const char *kind,
                                    const char *isa);

#endif
