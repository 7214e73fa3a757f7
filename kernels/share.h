/*
 * share.h: the memory of one card and who has what of it: one line each, the sum, and whether it
 * fits. Pure functions.
 */
#ifndef MSERVE_KERNELS_SHARE_H
#define MSERVE_KERNELS_SHARE_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>

/* Of what is left for KV caches of no stated size, these are given out: fragments, graphs and the
 * libraries' own need the rest. */
enum { SHARE_KV_PERCENT = 93, SHARE_KV_BLOCK = 32 };

/* What one engine takes; bytes. */
struct share_part {
    const char *name;
    uint64_t weight_bytes;
    uint64_t activation_bytes;
    uint64_t context_bytes;  /* that the driver takes for a process */
    uint64_t kv_token_bytes; /* of the KV cache, a token */
    uint64_t kv_tokens;      /* of it, as stated; 0: share_memory() fills in what it can have */
    uint64_t kv_tokens_min;  /* one whole context: less is refused */
    uint64_t kv_tokens_max;  /* sequences_max contexts: more is never of use */
};

/*
 * Sets kv_tokens where it is 0. Each has its kv_tokens_min first; the rest is shared in proportion to
 * what they could use beyond that, so that all have equally many of their contexts. False when it
 * does not fit into `bytes`: nothing is set then, and the caller refuses.
 *
 * Either way `text` has a line for each part and one for the sum; when it does not fit, one more that
 * says how much is missing and what to lower.
 */
bool share_memory(struct share_part *part, uint32_t count, uint64_t bytes, struct buffer *text);

#endif
