/*
 * checkpoint.h: what an unfinished request has generated so far, as the bytes in checkpoints.state.
 *
 * FORM, little-endian
 *     0  magic "MSCK"            40  line, i64                  72  key of the prompt, 8 bytes
 *     4  version, u16            48  epoch of the partition,    80  sha256 of the model, 32 bytes
 *     6  flags, u16                  when written, i64         112  numerics id, 32 bytes
 *     8  checksum, 16 bytes      56  attempt, u32              144  ns in an engine, all attempts, u64
 *    24  job, 16 bytes           60  tokens, u32               152  token ids, each a varint of 7 bits a
 *                                64  seed, u64                      byte, lowest first, as short as it can be
 *                                                                   and behind them, where they were asked for,
 *                                                                   their log-probabilities as floats
 * The checksum is the first half of the SHA-256 of all other bytes. The size is exact.
 *
 * What is torn, damaged or put in another's place is told apart from what is good, and the request
 * begins anew. It is not a seal: who may write the table can make a good one.
 *
 * Pure functions; any thread.
 */
#ifndef MSERVE_CONSUMER_CHECKPOINT_H
#define MSERVE_CONSUMER_CHECKPOINT_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/uuid.h"

#include <stdbool.h>
#include <stdint.h>

enum { CHECKPOINT_KEY_BYTES = 8, CHECKPOINT_ID_BYTES = 32, CHECKPOINT_HEAD_BYTES = 152 };

struct checkpoint {
    struct uuid job;
    int64_t line;
    int64_t epoch;
    uint32_t attempt; /* that wrote it, from 1 */
    uint64_t seed;
    uint8_t prompt[CHECKPOINT_KEY_BYTES]; /* checkpoint_prompt_key() */
    uint8_t model[CHECKPOINT_ID_BYTES];
    uint8_t numerics[CHECKPOINT_ID_BYTES];
    bool numerics_changed; /* some of its tokens were generated under yet another numerics id */
    uint64_t ran_ns;       /* how long it was in an engine, in all attempts: of its time limit */
    const uint32_t *tokens;
    uint32_t tokens_len;   /* >= 1 */
    const float *logprobs; /* [tokens_len], or NULL: not asked for */
};

/* Tells prompts apart, so that tokens never go on behind another prompt than they came from. */
void checkpoint_prompt_key(const uint32_t *prompt, uint32_t len, uint8_t ret[CHECKPOINT_KEY_BYTES]);

/* Appends the bytes. */
void checkpoint_encode(const struct checkpoint *checkpoint, struct buffer *out);

/*
 * The arrays of *ret lie in the arena; they are no larger than the bytes can hold. ERR_INPUT (not
 * logged): these bytes are no whole checkpoint of this version, and *ret_why says in a constant what is
 * wrong.
 */
enum err checkpoint_decode(struct slice state, struct arena *arena, struct checkpoint *ret,
                           const char **ret_why);

/* The request that wants to go on, and what its row in the table says of the checkpoint. */
struct checkpoint_wanted {
    struct uuid job;
    int64_t line;
    int64_t epoch; /* of the partition, now */
    uint32_t attempt;
    uint32_t tokens;
    uint64_t seed;
    uint8_t prompt[CHECKPOINT_KEY_BYTES];
    const uint8_t *model;
    uint32_t tokens_max;
    uint32_t vocab;
    bool logprobs;
};

/* NULL when the request can go on from it; else what is in the way, in a constant. */
const char *checkpoint_hindrance(const struct checkpoint *checkpoint,
                                 const struct checkpoint_wanted *wanted);

#endif
