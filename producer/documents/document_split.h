/*
 * document_split.h: where a long document is cut: at the end of a paragraph, else of a line, else of a
 * sentence, else between words, else between characters. Parts overlap by about so many tokens, at the
 * same kinds of places, and together hold every byte.
 *
 * Tokens are counted by the tier's own tokenizer where the model's file is at hand, else estimated as a
 * token for each 3 bytes of ASCII and one for each other character (which is on the safe side).
 * No part has more than `tokens_max` tokens as counted.
 */
#ifndef MSERVE_PRODUCER_DOCUMENT_SPLIT_H
#define MSERVE_PRODUCER_DOCUMENT_SPLIT_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>

struct document_splitter;

struct document_split_options {
    uint32_t tokens_max; /* 0: never cut */
    uint32_t overlap;    /* less than half of tokens_max */
    const char *model;   /* a GGUF file; NULL or "": tokens are estimated */
};

enum err document_splitter_open(const struct document_split_options *options,
                                struct document_splitter **ret);
void document_splitter_close(struct document_splitter *splitter); /* NULL is allowed */

/* Whether it counts with a tokenizer. */
bool document_splitter_counts(const struct document_splitter *splitter);

/* A part is text[begin, end). */
struct document_cut {
    size_t begin, end;
};

/* *ret: count cuts in order, valid until the next call; at least one, also of an empty text. */
enum err document_split(struct document_splitter *splitter, struct slice text,
                        const struct document_cut **ret, uint32_t *ret_count);

#endif
