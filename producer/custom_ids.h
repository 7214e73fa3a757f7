/*
 * custom_ids.h: finds custom_ids that appear more than once among any number of lines.
 *
 * A custom_id is kept as 128 bits of SipHash-2-4 under a random key: that two different ids of one
 * file agree in all of them has, with 20 million lines, a chance of 1 in 10^24, and nobody can make
 * it likelier. Entries are dealt by their first bits into buckets, which lie in pages of one
 * spill, so each bucket is small enough to be looked through in memory.
 *
 * MEMORY 16 MiB of pages being filled once there are many entries, and then one bucket at a time:
 * 24 bytes a line divided by 256 buckets, so 2 MiB for 20 million lines.
 *
 * custom_id_hash() may be called by any thread; the rest by one at a time.
 */
#ifndef MSERVE_PRODUCER_CUSTOM_IDS_H
#define MSERVE_PRODUCER_CUSTOM_IDS_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdint.h>

struct custom_ids;

struct custom_id_key {
    uint64_t k0, k1;
};

struct custom_id_hash {
    uint64_t a, b;
};

/* SipHash-2-4 with 128 bits of output. */
struct custom_id_hash custom_id_hash(const struct custom_id_key *key, struct slice id);

/* `dir` (borrowed) is where it spills to. */
struct custom_ids *custom_ids_new(const char *dir);
void custom_ids_free(struct custom_ids *ids); /* NULL is allowed */

/* Request numbers must ascend. */
enum err custom_ids_add(struct custom_ids *ids, struct custom_id_hash hash, uint64_t request);

/*
 * Calls `on_duplicate_cb` for every request whose id an earlier one (`first`) has, in no certain
 * order. It stops at the first error, which it returns. Afterwards the set is used up.
 */
typedef enum err custom_ids_fn(void *data, uint64_t request, uint64_t first);
enum err custom_ids_duplicates(struct custom_ids *ids, custom_ids_fn *on_duplicate_cb, void *data);

#endif
