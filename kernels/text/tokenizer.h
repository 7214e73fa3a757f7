/*
 * tokenizer.h: text to token ids and back. Immutable once made: any thread may use it.
 *
 * Kinds: SentencePiece-type (tokenizer.ggml.model = "llama") with scores and byte fallback, and
 * "bytes" (id = byte value, then <s> 256, </s> 257), which the simulated device uses.
 */
#ifndef MSERVE_KERNELS_TOKENIZER_H
#define MSERVE_KERNELS_TOKENIZER_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>

struct tokenizer;
struct gguf; /* kernels/model/gguf.h */

enum { TOKEN_NONE = UINT32_MAX };

/* Ids, growable; release with free(). */
struct tokens {
    uint32_t *id;
    uint32_t len;
    uint32_t cap;
};

void tokens_add(struct tokens *tokens, uint32_t id);

/* From a model file's tokenizer.ggml.* keys. */
enum err tokenizer_new(const struct gguf *gguf, struct tokenizer **ret);
struct tokenizer *tokenizer_new_bytes(void);
void tokenizer_free(struct tokenizer *tokenizer);

/*
 * Appends the ids of `text` (any bytes; invalid UTF-8 falls back to bytes). With `begin`, what the
 * model wants at the start of a prompt (BOS) comes first. Special tokens are not recognised in text:
 * a document cannot forge one. ERR_LIMIT, not logged, when more than `tokens_max` would come out;
 * then `out` is as before.
 *
 * "llama" text begins with a blank of its own (unless the file says otherwise), so the pieces of the
 * ids give a blank and then `text` back, with U+2581 for a blank where `text` has that character.
 */
enum err tokenizer_encode(const struct tokenizer *tokenizer, struct slice text, bool begin,
                          uint32_t tokens_max, struct tokens *out);

/* The bytes of one token inside running text; empty for control tokens. Borrowed. */
struct slice tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id);

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer);
uint32_t tokenizer_bos(const struct tokenizer *tokenizer); /* TOKEN_NONE where there is none */

/* What tokenizer_encode() puts first with `begin`; TOKEN_NONE where the model wants nothing there. */
uint32_t tokenizer_begin(const struct tokenizer *tokenizer);

/* True for the tokens that end a generation (eos, eot, eom). */
bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id);

#endif
