/*
 * line_index.h: what the first reading of a file leaves for the second: where each request's body
 * and custom_id stand, which lines are not valid and why. So nothing is parsed twice.
 *
 * 32 bytes a request, in a spill. Requests are numbered from 0, blank lines not counted; a line's
 * number, as errors show it, counts from 1 and with blank lines.
 *
 * ERRORS ERR_IO, logged. One thread at a time.
 */
#ifndef MSERVE_PRODUCER_LINE_INDEX_H
#define MSERVE_PRODUCER_LINE_INDEX_H

#include "config/buffer.h"
#include "producer/request.h"

#include <stdbool.h>
#include <stdint.h>

enum line_flags {
    LINE_INVALID = 1 << 0,    /* has an error and no body */
    LINE_DUPLICATE = 1 << 1,  /* its error is that an earlier request has its custom_id */
    LINE_ID_ESCAPED = 1 << 2, /* its custom_id is to be decoded */
};

struct line_entry {
    uint64_t at;       /* where the line begins in the input */
    uint32_t blanks;   /* blank lines before it */
    uint32_t body_at;  /* from `at`; of an INVALID one the low half of its error's place */
    uint32_t body_len; /* the high half, likewise */
    uint32_t id_at;    /* from `at`: the first byte behind the quote */
    uint16_t id_len;   /* bytes as written; 0: none that can be used */
    uint16_t flags;
    uint32_t work;
};

_Static_assert(sizeof(struct line_entry) == 32, "no holes");

struct line_index;

struct line_index *line_index_new(const char *dir);
void line_index_free(struct line_index *index); /* NULL is allowed */

uint64_t line_index_count(const struct line_index *index);
uint64_t line_index_invalid(const struct line_index *index); /* requests with LINE_INVALID */

enum err line_index_add(struct line_index *index, const struct line_entry *entries, uint32_t count);

/* Adds one that is LINE_INVALID; the error is copied. */
enum err line_index_add_invalid(struct line_index *index, struct line_entry *entry,
                                const struct request_error *error);

/* Makes `request` a duplicate of `first`; nothing happens to one that is invalid already. */
enum err line_index_set_duplicate(struct line_index *index, uint64_t request, uint64_t first);

/* Entries from `request` on, as many as fit into `max` and are there; *ret_count says how many. */
enum err line_index_read(struct line_index *index, uint64_t request, struct line_entry *ret,
                         uint32_t max, uint32_t *ret_count);

/* The line's number as people count. */
static inline uint64_t line_number(const struct line_entry *entry, uint64_t request)
{
    return request + entry->blanks + 1;
}

/*
 * Adds {code, message, param, line} of an invalid entry to `ret` as JSON; param is null where no
 * field is to blame.
 */
enum err line_index_error_json(struct line_index *index, const struct line_entry *entry,
                               uint64_t request, struct buffer *ret);

/*
 * The same for the line's failed row, whose message begins with "line 7: ": a line that could not be
 * read has no custom_id that would say which it is.
 */
enum err line_index_error_row(struct line_index *index, const struct line_entry *entry,
                              uint64_t request, struct buffer *ret);

/* The same in a sentence: "line 7: invalid_url: `url` must be …" */
enum err line_index_error_text(struct line_index *index, const struct line_entry *entry,
                               uint64_t request, struct buffer *ret);

#endif
