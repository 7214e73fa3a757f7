/*
 * settings_yaml.c: libyaml's events against the tables of settings.
 *
 * The file is a map of sections, and a list of maps under `tiers`. What YAML can do beyond that is
 * refused: anchors, aliases, tags, a second document, more than 16 levels. A value that is wrong
 * is reported and reading goes on, so that one run shows all of them; where the structure is
 * wrong, reading ends.
 */
#include "config/log.h"
#include "config/settings_table.h"
#include "config/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

enum { DEPTH_MAX = 16, SEEN_MAX = 256, NAME_MAX_BYTES = 128, PROBLEMS_MAX = 20 };

/* A key that was met: what to say when it comes again. */
struct seen {
    char name[NAME_MAX_BYTES];
    size_t line;
};

/* The table that keys are looked up in, and where values go. */
struct scope {
    const struct setting_table *table;
    void *target;
    uint8_t *origin;   /* one a row of the table, or NULL */
    const char *shown; /* "" or "tiers: " */
    struct seen *seen;
    size_t seen_count;
};

struct reader {
    struct settings *settings;
    const char *path;
    uint8_t *origin;
    unsigned problems;
    bool stopped;
    yaml_parser_t parser;
    yaml_event_t event;
};

static void problem(struct reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Reports something at the current event. */
static void problem(struct reader *reader, const char *format, ...)
{
    char sentence[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    reader->problems++;
    fail(ERR_SETTINGS, "%s:%zu: %s", reader->path, reader->event.start_mark.line + 1, sentence);
}

static void stop(struct reader *reader, const char *sentence)
{
    problem(reader, "%s", sentence);
    reader->stopped = true;
}

static bool has_anchor_or_tag(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor != NULL || event->data.sequence_start.tag != NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor != NULL || event->data.mapping_start.tag != NULL;
    default:
        return event->type == YAML_ALIAS_EVENT;
    }
}

/* Moves to the next event; false when reading ends here, with its reason reported. */
static bool next(struct reader *reader)
{
    if (reader->stopped)
        return false;
    yaml_event_delete(&reader->event);
    if (!yaml_parser_parse(&reader->parser, &reader->event)) {
        const char *context = reader->parser.context;

        reader->event.start_mark = reader->parser.problem_mark;
        problem(reader, "this is not YAML: %s%s%s.", context != NULL ? context : "",
                context != NULL ? ", " : "",
                reader->parser.problem != NULL ? reader->parser.problem : "unreadable");
        reader->stopped = true;
    } else if (has_anchor_or_tag(&reader->event)) {
        stop(reader, "anchors (&), aliases (*) and tags (!) are not allowed in this file.");
    }
    return !reader->stopped;
}

static struct slice scalar(const struct reader *reader)
{
    return (struct slice){(const char *)reader->event.data.scalar.value,
                          reader->event.data.scalar.length};
}

/* An unquoted nothing: the key is there and its value is not. */
static bool is_empty(const struct reader *reader)
{
    struct slice text = scalar(reader);

    return reader->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (text.len == 0 || (text.len == 1 && text.data[0] == '~') ||
            (text.len == 4 && memcmp(text.data, "null", 4) == 0));
}

/* Passes over the value that begins at the current event. */
static void skip(struct reader *reader)
{
    unsigned depth = 0;

    for (;;) {
        yaml_event_type_t type = reader->event.type;

        if (type == YAML_MAPPING_START_EVENT || type == YAML_SEQUENCE_START_EVENT)
            depth++;
        else if (type == YAML_MAPPING_END_EVENT || type == YAML_SEQUENCE_END_EVENT)
            depth--;
        if (depth > DEPTH_MAX)
            stop(reader, "maps and lists lie more than 16 deep in one another.");
        if (depth == 0 || !next(reader))
            return;
    }
}

static bool seen_before(struct reader *reader, struct scope *scope, const char *name)
{
    size_t line = reader->event.start_mark.line + 1;

    for (size_t i = 0; i < scope->seen_count; i++) {
        if (strcmp(scope->seen[i].name, name) == 0) {
            problem(reader, "%s%s stands twice, first in line %zu.", scope->shown, name,
                    scope->seen[i].line);
            return true;
        }
    }
    if (scope->seen_count < SEEN_MAX) {
        struct seen *seen = &scope->seen[scope->seen_count++];

        snprintf(seen->name, sizeof(seen->name), "%s", name);
        seen->line = line;
    }
    return false;
}

static bool is_section(const struct setting_table *table, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < table->count; i++)
        if (strncmp(table->rows[i].name, name, len) == 0 && table->rows[i].name[len] == '.')
            return true;
    return false;
}

/* `x_file` of a secret `x`; NULL when the name is something else. */
static const struct setting *find_secret_file(const struct setting_table *table, const char *name)
{
    size_t len = strlen(name);
    const struct setting *row = NULL;

    if (len > 5 && strcmp(name + len - 5, "_file") == 0)
        row = setting_find(table, (struct slice){name, len - 5});
    return row != NULL && row->type == SETTING_SECRET ? row : NULL;
}

static void mark_origin(const struct scope *scope, const struct setting *row)
{
    if (scope->origin != NULL)
        scope->origin[row - scope->table->rows] = SETTING_FILE;
}

/* The current event's value for a row, which may be a list of scalars; joined by commas. */
static bool read_text(struct reader *reader, const struct setting *row, struct buffer *text)
{
    bool first = true;

    if (reader->event.type == YAML_SCALAR_EVENT) {
        buffer_add(text, scalar(reader).data, scalar(reader).len);
        return true;
    }
    if (row->type != SETTING_LIST || reader->event.type != YAML_SEQUENCE_START_EVENT) {
        skip(reader);
        return false;
    }
    while (next(reader) && reader->event.type == YAML_SCALAR_EVENT) {
        if (!first)
            buffer_add_byte(text, ',');
        first = false;
        buffer_add(text, scalar(reader).data, scalar(reader).len);
    }
    if (!reader->stopped && reader->event.type != YAML_SEQUENCE_END_EVENT)
        stop(reader, "a list of names must not hold maps or lists.");
    return !reader->stopped;
}

static void read_setting(struct reader *reader, struct scope *scope, const struct setting *row,
                         const char *name)
{
    struct buffer text = {0}, shown = {0}, allowed = {0};
    size_t line = reader->event.start_mark.line;
    bool empty = reader->event.type == YAML_SCALAR_EVENT && is_empty(reader);

    if (empty)
        return;
    if (read_text(reader, row, &text) &&
        setting_set(row, buffer_slice(&text), &reader->settings->arena, scope->target)) {
        mark_origin(scope, row);
    } else if (!reader->stopped) {
        reader->event.start_mark.line = line;
        utf8_add_printable(&shown, buffer_slice(&text));
        setting_add_allowed(row, &allowed);
        problem(reader, "%s%s is \"%.60s\" but must be %s.", scope->shown, name, shown.data,
                allowed.data);
    }
    buffer_release(&text);
    buffer_release(&shown);
    buffer_release(&allowed);
}

static void read_secret(struct reader *reader, struct scope *scope, const struct setting *row,
                        const char *name)
{
    char where[512];
    char *path;

    if (reader->event.type != YAML_SCALAR_EVENT ||
        memchr(scalar(reader).data, '\0', scalar(reader).len) != NULL) {
        problem(reader, "%s must be a path.", name);
        skip(reader);
        return;
    }
    if (is_empty(reader) || scalar(reader).len == 0)
        return;
    path = arena_copy(&reader->settings->arena, scalar(reader).data, scalar(reader).len);
    snprintf(where, sizeof(where), "%s:%zu: %s", reader->path, reader->event.start_mark.line + 1,
             name);
    if (setting_read_secret(row, where, path, &reader->settings->arena, scope->target))
        reader->problems++;
    else
        mark_origin(scope, row);
}

static void read_unknown(struct reader *reader, const struct scope *scope, const char *name)
{
    const char *near = setting_nearest(scope->table, name);

    if (near != NULL)
        problem(reader, "%s%s is no setting; did you mean %s?", scope->shown, name, near);
    else
        problem(reader, "%s%s is no setting; `mserve check-config --print` shows them all.",
                scope->shown, name);
    if (next(reader))
        skip(reader);
}

static void read_map(struct reader *reader, struct scope *scope, const char *prefix);

static void read_section(struct reader *reader, struct scope *scope, const char *name)
{
    char prefix[NAME_MAX_BYTES + 1];

    if (reader->event.type == YAML_SCALAR_EVENT && is_empty(reader))
        return; /* all that stands in it is commented out */
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        problem(reader, "%s%s is a section and must hold settings.", scope->shown, name);
        skip(reader);
        return;
    }
    snprintf(prefix, sizeof(prefix), "%s.", name);
    read_map(reader, scope, prefix);
}

static void read_tier(struct reader *reader)
{
    struct settings *settings = reader->settings;
    struct scope scope = {.table = &tier_rows, .shown = "tiers: "};

    if (settings->tier_count == SETTINGS_TIERS_MAX) {
        stop(reader, "tiers: there may be 64 tiers at most.");
        return;
    }
    if (reader->event.type != YAML_MAPPING_START_EVENT) {
        problem(reader, "tiers: each tier must be a map that begins with `- name:`.");
        skip(reader);
        return;
    }
    if (settings->tier == NULL)
        settings->tier =
            arena_zalloc(&settings->arena, SETTINGS_TIERS_MAX, sizeof(settings->tier[0]));
    scope.target = &settings->tier[settings->tier_count++];
    scope.seen = xcalloc(SEEN_MAX, sizeof(scope.seen[0]));
    setting_set_defaults(&tier_rows, &settings->arena, scope.target);
    read_map(reader, &scope, "");
    free(scope.seen);
}

static void read_tiers(struct reader *reader)
{
    if (reader->event.type == YAML_SCALAR_EVENT && is_empty(reader))
        return;
    if (reader->event.type != YAML_SEQUENCE_START_EVENT) {
        problem(reader, "tiers must be a list of tiers.");
        skip(reader);
        return;
    }
    while (next(reader) && reader->event.type != YAML_SEQUENCE_END_EVENT)
        read_tier(reader);
}

/* One key, the current event, and its value. */
static void read_member(struct reader *reader, struct scope *scope, const char *name)
{
    const struct setting *row = setting_find(scope->table, (struct slice){name, strlen(name)});
    const struct setting *secret = find_secret_file(scope->table, name);
    bool is_tiers = scope->target == reader->settings && strcmp(name, "tiers") == 0;
    bool again = seen_before(reader, scope, name);

    if (row == NULL && secret == NULL && !is_tiers && !is_section(scope->table, name)) {
        read_unknown(reader, scope, name);
        return;
    }
    if (row != NULL && row->type == SETTING_SECRET)
        problem(reader,
                "%s does not belong in this file; put it in a file of its own and its path "
                "in %s_file.",
                name, name);
    if (!next(reader))
        return;
    if (again || (row != NULL && row->type == SETTING_SECRET))
        skip(reader);
    else if (is_tiers)
        read_tiers(reader);
    else if (secret != NULL)
        read_secret(reader, scope, secret, name);
    else if (row != NULL)
        read_setting(reader, scope, row, name);
    else
        read_section(reader, scope, name);
}

/* The current event is the start of the map; on return it is its end. */
static void read_map(struct reader *reader, struct scope *scope, const char *prefix)
{
    while (next(reader) && reader->event.type != YAML_MAPPING_END_EVENT) {
        char name[NAME_MAX_BYTES];
        struct slice key;

        if (reader->problems >= PROBLEMS_MAX) {
            stop(reader, "20 problems were found; reading ends here.");
            return;
        }
        if (reader->event.type != YAML_SCALAR_EVENT) {
            stop(reader, "a key must be a name.");
            return;
        }
        key = scalar(reader);
        if (key.len == 0 || key.len + strlen(prefix) >= sizeof(name) ||
            memchr(key.data, '\0', key.len) != NULL || memchr(key.data, '.', key.len) != NULL) {
            stop(reader, "a key must be a name of at most 127 bytes without a dot.");
            return;
        }
        snprintf(name, sizeof(name), "%s%.*s", prefix, (int)key.len, key.data);
        read_member(reader, scope, name);
    }
}

static void read_document(struct reader *reader)
{
    struct scope scope = {
        .table = &settings_rows, .target = reader->settings, .origin = reader->origin, .shown = ""};

    if (!next(reader) || !next(reader)) /* the stream's start, the document's */
        return;
    if (reader->event.type == YAML_STREAM_END_EVENT)
        return; /* nothing but comments */
    if (!next(reader))
        return;
    scope.seen = xcalloc(SEEN_MAX, sizeof(scope.seen[0]));
    if (reader->event.type == YAML_MAPPING_START_EVENT)
        read_map(reader, &scope, "");
    else if (reader->event.type != YAML_SCALAR_EVENT || !is_empty(reader))
        stop(reader, "the file must be a map of sections, such as `kafka:`.");
    free(scope.seen);
    if (next(reader) && next(reader) && reader->event.type != YAML_STREAM_END_EVENT)
        stop(reader, "the file must hold one document, without a second `---`.");
}

void settings_read_yaml(struct settings *settings, const char *path, struct slice text,
                        uint8_t *origin, unsigned *problems)
{
    struct reader reader = {.settings = settings, .path = path, .origin = origin};

    if (!yaml_parser_initialize(&reader.parser))
        abort(); /* memory */
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text.data, text.len);
    read_document(&reader);
    yaml_event_delete(&reader.event);
    yaml_parser_delete(&reader.parser);
    *problems += reader.problems;
}
