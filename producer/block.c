/* block.c: filling and judging one block. */
#include "producer/block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(struct block *block, size_t cap)
{
    if (cap <= block->cap)
        return;
    block->data = xrealloc(block->data, cap, 1);
    block->cap = cap;
}

/* Bytes of `data` up to the end of its last whole line, at most BLOCK_LINES_MAX; 0: none. */
static size_t whole_lines(const char *data, size_t len)
{
    const char *at = data, *end = data + len;

    for (uint32_t lines = 0; lines < BLOCK_LINES_MAX; lines++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));

        if (newline == NULL)
            break;
        at = newline + 1;
    }
    return (size_t)(at - data);
}

/* Passes over the rest of a line that is too long; block->end is set behind it. */
static enum err pass_over(struct block *block, struct input *input, struct sha256 *sha)
{
    char *piece = xmalloc(BLOCK_BYTES);
    const char *newline = NULL;
    size_t len = 1;
    enum err rc = ERR_OK;

    while (newline == NULL && len > 0) {
        rc = input_read(input, block->end, piece, BLOCK_BYTES, &len);
        if (rc != ERR_OK)
            break;
        newline = memchr(piece, '\n', len);
        if (newline != NULL)
            len = (size_t)(newline - piece) + 1;
        if (sha != NULL)
            sha256_add(sha, piece, len);
        block->end += len;
    }
    free(piece);
    return rc;
}

/* Makes the block larger until a line ends in it, as far as lines may be long. */
static enum err read_lines(struct block *block, struct input *input, uint64_t line_bytes_max)
{
    size_t cap = BLOCK_BYTES;

    for (;;) {
        size_t got, whole;
        enum err rc;

        reserve(block, cap);
        rc = input_read(input, block->at + block->len, block->data + block->len, cap - block->len,
                        &got);
        if (rc != ERR_OK)
            return rc;
        block->len += got;
        whole = whole_lines(block->data, block->len);
        if (whole > 0) {
            block->len = whole;
            return ERR_OK;
        }
        if (block->len < cap)
            return ERR_OK; /* the last line has no newline */
        if (block->len > line_bytes_max) {
            block->too_long = true;
            return ERR_OK;
        }
        cap *= 2;
    }
}

enum err block_fill(struct block *block, struct input *input, uint64_t line_bytes_max,
                    struct sha256 *sha)
{
    enum err rc = read_lines(block, input, line_bytes_max);

    if (rc != ERR_OK)
        return rc;
    if (sha != NULL)
        sha256_add(sha, block->data, block->len);
    block->end = block->at + block->len;
    return block->too_long ? pass_over(block, input, sha) : ERR_OK;
}

const char *block_begin(const struct block *block)
{
    bool marked = block->at == 0 && block->len >= 3 && memcmp(block->data, "\xef\xbb\xbf", 3) == 0;

    return block->data + (marked ? 3 : 0);
}

static struct block_line *add_line(struct block *block)
{
    if (block->lines == block->lines_cap) {
        block->lines_cap = block->lines_cap == 0 ? 1024 : block->lines_cap * 2;
        block->line = xrealloc(block->line, block->lines_cap, sizeof(*block->line));
    }
    return &block->line[block->lines++];
}

static struct request_error *add_error(struct block *block)
{
    if (block->errors == block->errors_cap) {
        block->errors_cap = block->errors_cap == 0 ? 16 : block->errors_cap * 2;
        block->error = xrealloc(block->error, block->errors_cap, sizeof(*block->error));
    }
    return &block->error[block->errors++];
}

static void note_model(struct block *block, struct slice model)
{
    if (block->model.len == 0)
        block->model = (struct slice){arena_copy(&block->arena, model.data, model.len), model.len};
    else if (block->model.len != model.len || memcmp(block->model.data, model.data, model.len) != 0)
        block->models_differ = true;
}

static uint32_t offset(struct slice text, struct slice part)
{
    return part.len > 0 ? (uint32_t)(part.data - text.data) : 0;
}

static void note_entry(const struct block *block, struct block_line *to, struct slice text,
                       const struct line *line)
{
    struct slice raw = line->custom_id_raw;
    bool escaped = raw.len > 0 && memchr(raw.data, '\\', raw.len) != NULL;

    to->entry = (struct line_entry){
        .at = block->at + (uint64_t)(text.data - block->data),
        .blanks = block->blanks,
        .body_at = offset(text, line->body),
        .body_len = (uint32_t)line->body.len,
        .id_at = offset(text, raw),
        .id_len = (uint16_t)raw.len,
        .flags = escaped ? LINE_ID_ESCAPED : 0,
        .work = line->work < UINT32_MAX ? (uint32_t)line->work : UINT32_MAX,
    };
}

/* One line that is not blank. */
static void judge_line(struct block *block, const struct block_rules *rules, struct slice text,
                       struct arena *scratch)
{
    struct block_line *to = add_line(block);
    struct request_error error;
    struct line line = {0};
    enum err rc;

    arena_clear(scratch);
    if (block->too_long || text.len > rules->line_bytes_max) {
        error = (struct request_error){.code = "line_too_long"};
        snprintf(error.message, sizeof(error.message),
                 "the line is longer than %llu bytes (submit.line_bytes_max).",
                 (unsigned long long)rules->line_bytes_max);
        rc = ERR_INPUT;
    } else {
        rc = line_read(scratch, rules->line, text, &line, &error);
    }
    note_entry(block, to, text, &line);
    if (line.custom_id.len > 0)
        to->hash = custom_id_hash(&rules->key, line.custom_id);
    to->error = 0;
    if (rc != ERR_OK) {
        *add_error(block) = error;
        to->error = block->errors;
        return;
    }
    note_model(block, line.model);
}

void block_judge(struct block *block, const struct block_rules *rules)
{
    struct arena scratch = {0};
    const char *at = block_begin(block), *end = block->data + block->len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct slice text = {at, (size_t)((newline != NULL ? newline : end) - at)};

        at += text.len + 1;
        if (line_is_blank(text) && !block->too_long)
            block->blanks++;
        else
            judge_line(block, rules, text, &scratch);
    }
    arena_release(&scratch);
}

void block_clear(struct block *block)
{
    if (block->cap > 2 * BLOCK_BYTES) {
        free(block->data);
        block->data = NULL;
        block->cap = 0;
    }
    arena_clear(&block->arena);
    block->len = 0;
    block->too_long = false;
    block->lines = block->errors = block->blanks = 0;
    block->model = (struct slice){0};
    block->models_differ = false;
}

void block_release(struct block *block)
{
    free(block->data);
    free(block->line);
    free(block->error);
    arena_release(&block->arena);
}
