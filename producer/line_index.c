/* line_index.c: two spills, one of entries and one of errors. */
#include "producer/line_index.h"
#include "producer/spill.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRIES_MEMORY_BYTES = 4 << 20, ERRORS_MEMORY_BYTES = 1 << 20 };

/* An error in its spill. */
struct stored_error {
    char code[32];
    char param[sizeof(((struct request_error *)0)->param)];
    char message[sizeof(((struct request_error *)0)->message)];
};

struct line_index {
    struct spill *entries;
    struct spill *errors;
    uint64_t invalid;
};

struct line_index *line_index_new(const char *dir)
{
    struct line_index *index = xcalloc(1, sizeof(*index));

    index->entries = spill_new(dir, "the index of the lines", ENTRIES_MEMORY_BYTES);
    index->errors = spill_new(dir, "the list of errors", ERRORS_MEMORY_BYTES);
    return index;
}

void line_index_free(struct line_index *index)
{
    if (index == NULL)
        return;
    spill_free(index->entries);
    spill_free(index->errors);
    free(index);
}

uint64_t line_index_count(const struct line_index *index)
{
    return spill_size(index->entries) / sizeof(struct line_entry);
}

uint64_t line_index_invalid(const struct line_index *index)
{
    return index->invalid;
}

enum err line_index_add(struct line_index *index, const struct line_entry *entries, uint32_t count)
{
    return spill_append(index->entries, entries, count * sizeof(*entries));
}

static void set_place(struct line_entry *entry, uint64_t place)
{
    entry->body_at = (uint32_t)place;
    entry->body_len = (uint32_t)(place >> 32);
}

static uint64_t get_place(const struct line_entry *entry)
{
    return (uint64_t)entry->body_len << 32 | entry->body_at;
}

enum err line_index_add_invalid(struct line_index *index, struct line_entry *entry,
                                const struct request_error *error)
{
    struct stored_error stored = {0};
    enum err rc;

    snprintf(stored.code, sizeof(stored.code), "%s", error->code);
    memcpy(stored.param, error->param, sizeof(stored.param));
    memcpy(stored.message, error->message, sizeof(stored.message));
    set_place(entry, spill_size(index->errors));
    entry->flags |= LINE_INVALID;
    entry->work = 0;
    rc = spill_append(index->errors, &stored, sizeof(stored));
    if (rc == ERR_OK)
        rc = line_index_add(index, entry, 1);
    if (rc == ERR_OK)
        index->invalid++;
    return rc;
}

enum err line_index_set_duplicate(struct line_index *index, uint64_t request, uint64_t first)
{
    struct line_entry entry;
    enum err rc =
        spill_read(index->entries, request * sizeof(struct line_entry), &entry, sizeof(entry));

    if (rc != ERR_OK || (entry.flags & LINE_INVALID) != 0)
        return rc;
    entry.flags |= LINE_INVALID | LINE_DUPLICATE;
    entry.work = 0;
    set_place(&entry, first);
    index->invalid++;
    return spill_write(index->entries, request * sizeof(struct line_entry), &entry, sizeof(entry));
}

enum err line_index_read(struct line_index *index, uint64_t request, struct line_entry *ret,
                         uint32_t max, uint32_t *ret_count)
{
    uint64_t count = line_index_count(index);
    uint64_t left = request < count ? count - request : 0;

    *ret_count = left < max ? (uint32_t)left : max;
    return spill_read(index->entries, request * sizeof(struct line_entry), ret,
                      *ret_count * sizeof(struct line_entry));
}

static enum err read_error(struct line_index *index, const struct line_entry *entry,
                           struct stored_error *ret)
{
    struct line_entry first;
    uint64_t place = get_place(entry);
    enum err rc;

    if ((entry->flags & LINE_DUPLICATE) == 0)
        return spill_read(index->errors, place, ret, sizeof(*ret));
    rc = spill_read(index->entries, place * sizeof(first), &first, sizeof(first));
    if (rc != ERR_OK)
        return rc;
    *ret = (struct stored_error){.code = "duplicate_custom_id", .param = "custom_id"};
    snprintf(ret->message, sizeof(ret->message), "line %" PRIu64 " has the same custom_id.",
             line_number(&first, place));
    return ERR_OK;
}

static void write_member(struct buffer *ret, const char *key, const char *text)
{
    json_write_key(ret, key);
    if (text[0] == '\0')
        json_write_null(ret);
    else
        json_write_string_clean(ret, (struct slice){text, strlen(text)});
}

static enum err add_json(struct line_index *index, const struct line_entry *entry, uint64_t request,
                         bool for_row, struct buffer *ret)
{
    struct stored_error stored;
    char message[sizeof(stored.message) + 32];
    enum err rc = read_error(index, entry, &stored);

    if (rc != ERR_OK)
        return rc;
    snprintf(message, sizeof(message), "line %" PRIu64 ": %s", line_number(entry, request),
             stored.message);
    json_write_open(ret, '{');
    write_member(ret, "code", stored.code);
    write_member(ret, "message", for_row ? message : stored.message);
    write_member(ret, "param", stored.param);
    json_write_key(ret, "line");
    json_write_u64(ret, line_number(entry, request));
    json_write_close(ret, '}');
    return ERR_OK;
}

enum err line_index_error_json(struct line_index *index, const struct line_entry *entry,
                               uint64_t request, struct buffer *ret)
{
    return add_json(index, entry, request, false, ret);
}

enum err line_index_error_row(struct line_index *index, const struct line_entry *entry,
                              uint64_t request, struct buffer *ret)
{
    return add_json(index, entry, request, true, ret);
}

enum err line_index_error_text(struct line_index *index, const struct line_entry *entry,
                               uint64_t request, struct buffer *ret)
{
    struct stored_error stored;
    enum err rc = read_error(index, entry, &stored);

    if (rc != ERR_OK)
        return rc;
    buffer_printf(ret, "line %" PRIu64 ": %s: %s", line_number(entry, request), stored.code,
                  stored.message);
    return ERR_OK;
}
