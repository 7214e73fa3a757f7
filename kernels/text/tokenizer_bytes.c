/* tokenizer_bytes.c: ids are byte values, then <s> 256 and </s> 257. */
#include "kernels/text/tokenizer.h"

#include <stdlib.h>

enum { BEGIN = 256, END = 257, VOCAB = 258 };

struct tokenizer {
    char bytes[256];
};

struct tokenizer *tokenizer_new_bytes(void)
{
    struct tokenizer *tokenizer = xmalloc(sizeof(*tokenizer));

    for (int i = 0; i < 256; i++)
        tokenizer->bytes[i] = (char)i;
    return tokenizer;
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    free(tokenizer);
}

enum err tokenizer_encode(const struct tokenizer *tokenizer, struct slice text, bool begin,
                          uint32_t tokens_max, struct tokens *out)
{
    const size_t more = text.len + (begin ? 1 : 0);

    (void)tokenizer;
    if (more > tokens_max)
        return ERR_LIMIT;
    if (out->cap - out->len < more) {
        out->cap = out->len + (uint32_t)more;
        out->id = xrealloc(out->id, out->cap, sizeof(*out->id));
    }
    if (begin)
        out->id[out->len++] = BEGIN;
    for (size_t i = 0; i < text.len; i++)
        out->id[out->len++] = (uint8_t)text.data[i];
    return ERR_OK;
}

struct slice tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id)
{
    return id < BEGIN ? (struct slice){tokenizer->bytes + id, 1} : (struct slice){"", 0};
}

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    (void)tokenizer;
    return VOCAB;
}

uint32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    (void)tokenizer;
    return BEGIN;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id)
{
    (void)tokenizer;
    return id == END;
}
