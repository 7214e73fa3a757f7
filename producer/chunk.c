/* chunk.c: the second reading of a file: by the index, without parsing. */
#include "producer/chunk.h"
#include "config/json.h"
#include "config/log.h"
#include "config/sha256.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_BYTES = 1 << 20, ENTRIES = 4096 };

struct chunk_reader {
    struct chunk_reader_options options;
    struct chunk_cut cut;
    struct line_entry *entry; /* [ENTRIES], a part of the index */
    uint64_t entry_first;     /* the request of entry[0] */
    uint32_t entry_count;
    uint64_t next_request;
    uint32_t next_chunk;
    bool begun; /* the first line of the next chunk is counted in `cut` */

    char *window; /* [WINDOW_BYTES], a part of the input */
    uint64_t window_at;
    size_t window_len;
    struct arena arena; /* for decoding ids */
};

struct chunk_reader *chunk_reader_new(const struct chunk_reader_options *options)
{
    struct chunk_reader *reader = xcalloc(1, sizeof(*reader));

    assert(options->lines_max >= 1 && options->lines_max <= CHUNK_LINES_MAX);
    reader->options = *options;
    reader->cut = (struct chunk_cut){options->lines_max, options->bytes_max, 0, 0};
    reader->entry = xcalloc(ENTRIES, sizeof(*reader->entry));
    reader->window = xmalloc(WINDOW_BYTES);
    return reader;
}

void chunk_reader_free(struct chunk_reader *reader)
{
    if (reader == NULL)
        return;
    free(reader->entry);
    free(reader->window);
    arena_release(&reader->arena);
    free(reader);
}

/* The index entry of a request, which exists. */
static enum err get_entry(struct chunk_reader *reader, uint64_t request,
                          const struct line_entry **ret)
{
    if (request < reader->entry_first || request >= reader->entry_first + reader->entry_count) {
        enum err rc = line_index_read(reader->options.index, request, reader->entry, ENTRIES,
                                      &reader->entry_count);

        if (rc != ERR_OK)
            return rc;
        reader->entry_first = request;
        assert(reader->entry_count > 0);
    }
    *ret = &reader->entry[request - reader->entry_first];
    return ERR_OK;
}

static uint64_t cut_bytes(const struct line_entry *entry)
{
    return (entry->flags & LINE_INVALID) != 0 ? 0 : entry->body_len;
}

enum err chunk_reader_next(struct chunk_reader *reader, struct chunk *ret)
{
    uint64_t requests = line_index_count(reader->options.index);

    if (reader->next_request == requests)
        return ERR_NOT_FOUND;
    ret->number = reader->next_chunk++;
    ret->first_line = reader->next_request;
    ret->lines = 0;
    while (reader->next_request < requests) {
        const struct line_entry *entry;
        enum err rc = get_entry(reader, reader->next_request, &entry);

        if (rc != ERR_OK)
            return rc;
        /* The line that ends a chunk begins the next one: it is counted once, as its first. */
        if (!reader->begun && chunk_cut_next(&reader->cut, cut_bytes(entry)) && ret->lines > 0) {
            reader->begun = true;
            return ERR_OK;
        }
        reader->begun = false;
        reader->next_request++;
        ret->lines++;
    }
    return ERR_OK;
}

/* `len` bytes of the input at `at`, into `to`. */
static enum err copy_bytes(struct chunk_reader *reader, uint64_t at, char *to, size_t len)
{
    size_t got;
    enum err rc;

    if (len > WINDOW_BYTES / 2) {
        rc = input_read(reader->options.input, at, to, len, &got);
        if (rc == ERR_OK && got < len)
            rc = fail(ERR_INPUT, "the input became shorter while it was read");
        return rc;
    }
    if (at < reader->window_at || at + len > reader->window_at + reader->window_len) {
        rc = input_read(reader->options.input, at, reader->window, WINDOW_BYTES,
                        &reader->window_len);
        if (rc != ERR_OK)
            return rc;
        reader->window_at = at;
        if (reader->window_len < len)
            return fail(ERR_INPUT, "the input became shorter while it was read");
    }
    memcpy(to, reader->window + (at - reader->window_at), len);
    return ERR_OK;
}

/* Decodes a custom_id that was written with escapes. */
static enum err decode_id(struct chunk_reader *reader, struct slice raw, struct buffer *to)
{
    char *quoted;
    struct json *value;

    arena_clear(&reader->arena);
    quoted = arena_alloc(&reader->arena, raw.len + 2);
    quoted[0] = quoted[raw.len + 1] = '"';
    memcpy(quoted + 1, raw.data, raw.len);
    if (json_parse(&reader->arena, (struct slice){quoted, raw.len + 2}, NULL, &value, NULL) !=
            ERR_OK ||
        !json_is_string(value))
        return fail(ERR_INPUT, "the input was changed while it was read");
    buffer_add(to, value->text.data, value->text.len);
    return ERR_OK;
}

static enum err load_id(struct chunk_reader *reader, const struct line_entry *entry,
                        struct chunk *chunk, struct chunk_line *line)
{
    size_t start = chunk->ids.len;
    char *to = buffer_reserve(&chunk->ids, (size_t)entry->id_len + 1);
    enum err rc = copy_bytes(reader, entry->at + entry->id_at, to, entry->id_len);

    if (rc == ERR_OK && (entry->flags & LINE_ID_ESCAPED) != 0) {
        char raw[UINT16_MAX];

        memcpy(raw, to, entry->id_len);
        rc = decode_id(reader, (struct slice){raw, entry->id_len}, &chunk->ids);
    } else {
        chunk->ids.len += entry->id_len;
    }
    if (rc != ERR_OK)
        return rc;
    line->id_at = (uint32_t)start;
    line->id_len = (uint32_t)(chunk->ids.len - start);
    if (line->id_len > MESSAGE_CUSTOM_ID_BYTES_MAX)
        return fail(ERR_INPUT, "the input was changed while it was read");
    buffer_add_byte(&chunk->ids, '\0');
    return ERR_OK;
}

static enum err load_blob(struct chunk_reader *reader, const struct line_entry *entry,
                          struct chunk_line *line)
{
    char *body = xmalloc(entry->body_len);
    enum err rc = copy_bytes(reader, entry->at + entry->body_at, body, entry->body_len);

    if (rc == ERR_OK) {
        sha256_of((struct slice){body, entry->body_len}, line->blob);
        line->has_blob = true;
        rc = reader->options.put_blob_cb(reader->options.data, line->blob,
                                         (struct slice){body, entry->body_len});
    }
    free(body);
    return rc;
}

static enum err load_body(struct chunk_reader *reader, const struct line_entry *entry,
                          struct chunk *chunk, struct chunk_line *line)
{
    enum err rc;

    line->body_at = chunk->values.len;
    if (entry->body_len > reader->options.inline_bytes_max) {
        rc = load_blob(reader, entry, line);
    } else {
        char *to = buffer_reserve(&chunk->values, (size_t)entry->body_len + 1);

        rc = copy_bytes(reader, entry->at + entry->body_at, to, entry->body_len);
        chunk->values.len += entry->body_len;
        line->body_len = entry->body_len;
        chunk->bytes += entry->body_len;
    }
    buffer_add_byte(&chunk->values, '\n');
    return rc;
}

static enum err load_error(struct chunk_reader *reader, const struct line_entry *entry,
                           uint64_t request, struct chunk *chunk, struct chunk_line *line)
{
    size_t start = chunk->errors.len;
    enum err rc = line_index_error_row(reader->options.index, entry, request, &chunk->errors);

    line->error_at = (uint32_t)start;
    line->error_len = (uint32_t)(chunk->errors.len - start);
    line->body_at = chunk->values.len;
    buffer_add_byte(&chunk->values, '\n');
    return rc;
}

enum err chunk_reader_load(struct chunk_reader *reader, struct chunk *chunk)
{
    enum err rc = ERR_OK;

    buffer_clear(&chunk->values);
    buffer_clear(&chunk->ids);
    buffer_clear(&chunk->errors);
    chunk->work = chunk->bytes = 0;
    for (uint32_t i = 0; i < chunk->lines && rc == ERR_OK; i++) {
        struct chunk_line *line = &chunk->line[i];
        const struct line_entry *found;
        struct line_entry entry;

        rc = get_entry(reader, chunk->first_line + i, &found);
        if (rc != ERR_OK)
            break;
        entry = *found;
        *line = (struct chunk_line){0};
        rc = load_id(reader, &entry, chunk, line);
        if (rc == ERR_OK)
            rc = (entry.flags & LINE_INVALID) != 0
                     ? load_error(reader, &entry, chunk->first_line + i, chunk, line)
                     : load_body(reader, &entry, chunk, line);
        chunk->work += entry.work;
    }
    return rc;
}

void chunk_message(const struct chunk *chunk, uint32_t line, struct message *ret)
{
    const struct chunk_line *from = &chunk->line[line];

    ret->line = chunk->first_line + line;
    ret->chunk = chunk->number;
    ret->custom_id = (struct slice){chunk->ids.data + from->id_at, from->id_len};
    ret->traceparent = (struct slice){0};
    ret->error = (struct slice){0};
    if (from->error_len > 0)
        ret->error = (struct slice){chunk->errors.data + from->error_at, from->error_len};
    ret->has_blob = from->has_blob;
    memcpy(ret->blob, from->blob, sizeof(ret->blob));
    ret->body = (struct slice){chunk->values.data + from->body_at, from->body_len};
}

void chunk_release(struct chunk *chunk)
{
    buffer_release(&chunk->values);
    buffer_release(&chunk->ids);
    buffer_release(&chunk->errors);
}
