/*
 * philox.h: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3,
 * SC 2011): random numbers as a pure function of a key and a counter.
 *
 * The key is a request's seed, the counter says which number is wanted (position of the token,
 * choice, draw). So nothing has to be kept between tokens: a request that was interrupted and goes
 * on elsewhere draws what it would have drawn. Shared by all backends; known answers are in its test.
 */
#ifndef MSERVE_KERNELS_PHILOX_H
#define MSERVE_KERNELS_PHILOX_H

#include "kernels/everywhere.h"

#include <stdint.h>

struct philox {
    uint32_t word[4];
};

EVERYWHERE static inline struct philox philox4x32(struct philox counter, uint64_t key)
{
    uint32_t key0 = (uint32_t)key;
    uint32_t key1 = (uint32_t)(key >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * counter.word[0];
        uint64_t product1 = (uint64_t)0xCD9E8D57u * counter.word[2];

        counter.word[0] = (uint32_t)(product1 >> 32) ^ counter.word[1] ^ key0;
        counter.word[1] = (uint32_t)product1;
        counter.word[2] = (uint32_t)(product0 >> 32) ^ counter.word[3] ^ key1;
        counter.word[3] = (uint32_t)product0;
        key0 += 0x9E3779B9u; /* the golden ratio */
        key1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    return counter;
}

/* A number in [0, 1) with 53 random bits. */
EVERYWHERE static inline double philox_unit(uint64_t seed, uint32_t position, uint32_t choice,
                                            uint32_t draw)
{
    struct philox counter = {{position, choice, draw, 0}};
    struct philox bits = philox4x32(counter, seed);
    uint64_t high = bits.word[0] >> 5;
    uint64_t low = bits.word[1] >> 6;

    return (double)(high << 26 | low) * 0x1p-53;
}

#endif
