/*
 * block.h: a piece of the input that ends at a line end, and what its lines turned out to be. Used
 * by scan.c only.
 */
#ifndef MSERVE_PRODUCER_BLOCK_H
#define MSERVE_PRODUCER_BLOCK_H

#include "config/sha256.h"
#include "producer/custom_ids.h"
#include "producer/input.h"
#include "producer/line.h"
#include "producer/line_index.h"

enum {
    BLOCK_BYTES = 1 << 20,
    BLOCK_LINES_MAX = 8192, /* so that a file of tiny lines takes no more memory than another */
};

struct block_line {
    struct line_entry entry; /* `blanks` counts from the block's start */
    struct custom_id_hash hash;
    uint32_t error; /* index into errors + 1; 0: valid */
};

struct block {
    uint64_t at; /* where it begins in the input */
    char *data;
    size_t len, cap;
    bool too_long; /* one line, longer than allowed, of which `data` is the beginning */
    uint64_t end;  /* where the next block begins */

    struct arena arena;
    struct block_line *line;
    uint32_t lines, lines_cap;
    struct request_error *error;
    uint32_t errors, errors_cap;
    uint32_t blanks;
    struct slice model; /* of its valid lines; lives as long as the arena */
    bool models_differ;
};

struct block_rules {
    const struct line_rules *line;
    uint64_t line_bytes_max;
    struct custom_id_key key;
};

/* Reads the block that begins at block->at and adds its bytes to `sha` (may be NULL). */
enum err block_fill(struct block *block, struct input *input, uint64_t line_bytes_max,
                    struct sha256 *sha);

/* Where its first line begins: behind the byte order mark that some editors put before a file. */
const char *block_begin(const struct block *block);

void block_judge(struct block *block, const struct block_rules *rules);

void block_clear(struct block *block); /* keeps memory for the next, unless it grew large */
void block_release(struct block *block);

#endif
