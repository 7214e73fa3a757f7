/* retry_file.c: lines out of the file that the first job of the chain was made of. */
#include "producer/retry_internal.h"
#include "config/json.h"
#include "config/log.h"
#include "producer/interrupt.h"
#include "producer/scan.h"

#include <stdlib.h>
#include <string.h>

enum { LINES_AT_ONCE = 4096 };

struct file {
    struct retry *retry;
    struct input *input;
    struct scan scan;
    struct arena arena; /* of one line */
};

static enum err read_all(struct file *file, uint64_t at, size_t len, struct slice *ret)
{
    char *bytes = arena_alloc(&file->arena, len + 1);
    size_t got;
    enum err rc = input_read(file->input, at, bytes, len, &got);

    if (rc == ERR_OK && got < len)
        rc = fail(ERR_INPUT, "the input became shorter while it was read");
    bytes[len] = '\0';
    *ret = (struct slice){bytes, len};
    return rc;
}

/* The name as it was meant, without escapes. */
static enum err read_id(struct file *file, const struct line_entry *entry, struct slice *ret)
{
    struct json *value;
    enum err rc = read_all(file, entry->at + entry->id_at - 1, (size_t)entry->id_len + 2, ret);

    if (rc != ERR_OK)
        return rc;
    if (json_parse(&file->arena, *ret, NULL, &value, NULL) != ERR_OK || !json_is_string(value))
        return fail(ERR_INPUT, "the input was changed while it was read");
    *ret = value->text;
    return ERR_OK;
}

static enum err add_line(struct file *file, const struct retry_line *line)
{
    struct line_entry entry;
    struct slice id, body;
    uint32_t count;
    enum err rc = line_index_read(file->scan.index, (uint64_t)line->root_line, &entry, 1, &count);

    if (rc == ERR_OK && count == 0)
        rc = fail(ERR_INPUT, "the file has no request %lld", (long long)line->root_line);
    if (rc != ERR_OK)
        return rc;
    if (entry.flags & LINE_INVALID) {
        retry_skip(file->retry, line->line);
        return ERR_OK;
    }
    arena_clear(&file->arena);
    rc = read_id(file, &entry, &id);
    if (rc == ERR_OK)
        rc = read_all(file, entry.at + entry.body_at, entry.body_len, &body);
    return rc == ERR_OK ? retry_add(file->retry, id, body) : rc;
}

static enum err add_lines(struct file *file)
{
    struct retry *retry = file->retry;
    struct retry_line *line = xcalloc(LINES_AT_ONCE, sizeof(*line));
    int64_t after = -1;
    uint32_t count = 1;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && count > 0) {
        rc = retry_lines(retry->cli->db, &retry->source.job, retry->options->statuses, after, line,
                         LINES_AT_ONCE, &count);
        for (uint32_t i = 0; rc == ERR_OK && i < count; i++)
            rc = add_line(file, &line[i]);
        if (rc == ERR_OK && count > 0)
            after = line[count - 1].line;
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    free(line);
    return rc;
}

static enum err read_file(struct file *file)
{
    const struct settings_submit *settings = &file->retry->cli->settings->submit;
    struct input_spool spool = {.dir = settings->spool_dir,
                                .line_bytes_max = settings->line_bytes_max};
    struct scan_options scan = {.line_bytes_max = settings->line_bytes_max,
                                .spool_dir = settings->spool_dir};
    struct slice url = {file->retry->source.endpoint, strlen(file->retry->source.endpoint)};
    enum err rc = input_spool(file->input, &spool);

    scan.rules.has_endpoint = endpoint_find(url, &scan.rules.endpoint);
    return rc == ERR_OK ? scan_run(file->input, &scan, &file->scan) : rc;
}

enum err retry_from_file(struct retry *retry, const char *path)
{
    struct file file = {.retry = retry};
    char root[UUID_BATCH_SIZE];
    enum err rc = input_open(path, &file.input);

    if (rc == ERR_OK)
        rc = read_file(&file);
    if (rc == ERR_OK && memcmp(file.scan.sha256, retry->source.content_sha256,
                               sizeof(retry->source.content_sha256)) != 0)
        rc = fail(ERR_INPUT, "%s is not the file that %s was made of; give that one, unchanged",
                  path, uuid_format_batch(retry->source.root, root));
    if (rc == ERR_OK)
        rc = add_lines(&file);
    scan_release(&file.scan);
    input_close(file.input);
    arena_release(&file.arena);
    return rc;
}
