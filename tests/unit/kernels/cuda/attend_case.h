/*
 * attend_case.h: steps for tests of attention: sequences of any lengths over KV blocks in any
 * places, some of which begin with blocks of others.
 */
#ifndef MSERVE_TESTS_ATTEND_CASE_H
#define MSERVE_TESTS_ATTEND_CASE_H

#include "kernels/cuda/attend_plan.h"

struct attend_case {
    struct attend_shape shape;
    struct step step;
    struct slots slots;
    uint32_t blocks_len; /* handed out so far */
    uint32_t *order;     /* [blocks] in which they are handed out */
};

/* Exits when memory runs out. `seed` mixes the places of blocks. */
struct attend_case *attend_case_new(const struct attend_shape *shape, uint32_t seed);
void attend_case_free(struct attend_case *at);

/*
 * One more sequence, of `rows` rows after `context` tokens, whose first `shared` blocks are those
 * of sequence `like` of the step. Returns its number in the step; its slot is the same.
 */
uint32_t attend_case_add(struct attend_case *at, uint32_t context, uint32_t rows, uint32_t like,
                         uint32_t shared);

/* The sequence's blocks, of all its tokens. */
const uint32_t *attend_case_blocks(const struct attend_case *at, uint32_t sequence);

#endif
