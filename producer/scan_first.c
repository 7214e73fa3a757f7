/* scan_first.c: the line that a job's endpoint and tier are taken from is nearly always the first. */
#include "producer/block.h"
#include "producer/interrupt.h"
#include "producer/scan.h"

#include <stdlib.h>
#include <string.h>

struct search {
    const struct scan_options *options;
    struct scan_first *first;
    struct arena arena;
    bool found; /* a line that is valid */
};

static void keep(struct search *search, const struct line *line)
{
    struct scan_first *first = search->first;

    if (line->has_endpoint && (search->found || !first->has_endpoint)) {
        first->has_endpoint = true;
        first->endpoint = line->endpoint;
    }
    if (line->model.len > 0 && (search->found || first->model == NULL)) {
        free(first->model);
        first->model = strndup(line->model.data, line->model.len);
    }
}

/* Looks through a block for its first valid line. */
static void look(struct search *search, const struct block *block)
{
    const char *at = block_begin(block), *end = block->data + block->len;

    while (at < end && !search->found) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct slice text = {at, (size_t)((newline != NULL ? newline : end) - at)};
        struct request_error error;
        struct line line;

        at += text.len + 1;
        if (line_is_blank(text) || block->too_long)
            continue;
        arena_clear(&search->arena);
        search->found =
            line_read(&search->arena, &search->options->rules, text, &line, &error) == ERR_OK;
        keep(search, &line);
    }
}

enum err scan_find_first(struct input *input, const struct scan_options *options,
                         struct scan_first *ret)
{
    struct scan_first first = {0};
    struct search search = {.options = options, .first = &first};
    struct block block = {0};
    enum err rc = ERR_OK;

    while (rc == ERR_OK && !search.found && block.at < input_size(input)) {
        rc = block_fill(&block, input, options->line_bytes_max, NULL);
        if (rc == ERR_OK)
            look(&search, &block);
        block.at = block.end;
        block_clear(&block);
        if (interrupted())
            rc = ERR_INTERRUPTED;
    }
    block_release(&block);
    arena_release(&search.arena);
    if (rc != ERR_OK)
        free(first.model);
    else
        *ret = first;
    return rc;
}
