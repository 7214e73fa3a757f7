/*
 * fuzz_split.c: whatever the text, and at whatever size, its parts hold every byte in order, are
 * UTF-8, and none has more tokens than asked for, as estimated.
 */
#include "config/utf8.h"
#include "producer/documents/document_split.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* By the sentence in document_split.h, not by the code. */
static uint64_t estimate(struct slice text)
{
    uint64_t thirds = 0;

    for (size_t at = 0, len; at < text.len; at += len) {
        utf8_decode((struct slice){text.data + at, text.len - at}, &len);
        thirds += len == 1 ? 1 : 3;
    }
    return (thirds + 2) / 3;
}

static void check(struct document_splitter *splitter, uint32_t tokens_max, struct slice text)
{
    const struct document_cut *cut;
    size_t done = 0;
    uint32_t parts;

    must(document_split(splitter, text, &cut, &parts) == ERR_OK && parts >= 1);
    for (uint32_t i = 0; i < parts; i++) {
        struct slice part = {text.data + cut[i].begin, cut[i].end - cut[i].begin};

        must(cut[i].begin <= done && cut[i].end <= text.len);
        must(cut[i].end > done || text.len == 0);
        must(i == 0 || cut[i].begin > cut[i - 1].begin);
        must(utf8_valid(part));
        if (!document_splitter_counts(splitter))
            must(estimate(part) <= tokens_max);
        done = cut[i].end;
    }
    must(done == text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct document_split_options options = {.tokens_max = 16};
    struct document_splitter *splitter;
    struct buffer text = {0};

    if (size >= 2) { /* the first two bytes say how long parts are, and how much they share */
        options.tokens_max = 16 + data[0] % 64;
        options.overlap = data[1] % (options.tokens_max / 2);
        data += 2;
        size -= 2;
    }
    utf8_add_clean(&text, (struct slice){(const char *)data, size});
    must(document_splitter_open(&options, &splitter) == ERR_OK);
    check(splitter, options.tokens_max, text.len > 0 ? buffer_slice(&text) : SLICE(""));
    document_splitter_close(splitter);
    buffer_release(&text);
    return 0;
}
