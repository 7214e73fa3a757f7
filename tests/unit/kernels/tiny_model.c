/* tiny_model.c: through the reader that the programs use. */
#include "tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct model *tiny_open(const struct tiny_options *options, struct buffer *file)
{
    struct gguf *gguf;
    struct model *model;

    *file = tiny_llama(options);
    assert_int_equal(gguf_parse("tiny", file->data, file->len, &gguf), ERR_OK);
    assert_int_equal(model_new(gguf, &model), ERR_OK);
    return model;
}

void tiny_ids(uint32_t *ids, uint32_t len, uint64_t seed)
{
    for (uint32_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ids[i] = (uint32_t)(seed >> 33) % TINY_VOCAB;
    }
}
