/*
 * store.h: what intake needs from PostgreSQL and not from the log: bodies that were put aside because
 * of their size, the custom_ids of chunks whose lines get rows without being read, checkpoints, and what
 * is known of requests that may have killed workers.
 *
 * One thread uses a store; it has a connection of its own, made when it is first needed.
 */
#ifndef MSERVE_CONSUMER_STORE_H
#define MSERVE_CONSUMER_STORE_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/settings.h"
#include "consumer/claims.h"
#include "sql/checkpoint.h"
#include "sql/quarantine.h"

#include <stdint.h>

struct store;

struct store *store_new(const struct settings *settings);
void store_free(struct store *store); /* NULL is allowed */

/*
 * The body with this digest that the tenant of `job` stored, checked against it. ERR_NOT_FOUND when there is none, ERR_INPUT when it is
 * damaged; any other error is one of the database (sql/db.h).
 */
enum err store_body(struct store *store, const struct uuid *job, const uint8_t sha256[32],
                    struct arena *arena, struct slice *ret);

/*
 * Fills ret[chunk->lines]; the slices lie in the arena, and are empty where the index is damaged.
 * ERR_NOT_FOUND when it does not have the chunk.
 */
enum err store_custom_ids(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                          struct slice *ret);

/* What earlier attempts left of the chunk's lines, by line; *ret lies in the arena. */
enum err store_checkpoints(struct store *store, const struct claim_chunk *chunk,
                           struct arena *arena, struct checkpoint_row **ret, uint32_t *ret_count);

/* What is known of the chunk's lines from deaths of workers, by line, in the arena. */
enum err store_suspects(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                        struct quarantine_line **ret, uint32_t *ret_count);

/*
 * Keeps a request that was found guilty, and tells it on the topic of dead letters; the second comes at
 * least once. An error is one of the database or of Kafka: try again later.
 */
enum err store_dead_letter(struct store *store, const struct claim_chunk *chunk, uint32_t index,
                           struct slice custom_id, struct slice body, struct arena *arena);

#endif
