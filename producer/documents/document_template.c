/*
 * document_template.c: a body as pieces: JSON text that is always the same, and the holes between.
 */
#include "producer/documents/document_template.h"
#include "config/json.h"
#include "config/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEMPLATE_BYTES_MAX = 1 << 20 };

enum hole { HOLE_DOCUMENT, HOLE_PATH, HOLE_PART, HOLE_NONE };

static const struct slice hole_names[] = {SLICE("document"), SLICE("path"), SLICE("part")};

/* Text, already JSON, then what stands in the hole behind it. */
struct piece {
    size_t begin, end; /* of the template's `text` */
    enum hole hole;
};

struct document_template {
    const char *path;
    struct buffer source; /* the file */
    struct arena arena;
    struct json *tree;
    struct buffer text; /* of all pieces */
    size_t begun;       /* where the current piece begins */
    struct piece *piece;
    uint32_t pieces;
    bool has_document;
    enum endpoint endpoint;
    struct slice model;
};

static unsigned line_of(const struct document_template *template, size_t offset)
{
    unsigned line = 1;

    for (size_t i = 0; i < offset && i < template->source.len; i++)
        line += template->source.data[i] == '\n';
    return line;
}

/* The line on which a value begins. */
static unsigned line_of_value(const struct document_template *template, const struct json *value)
{
    return line_of(template, (size_t)(value->raw.data - template->source.data));
}

static enum err read_file(struct document_template *template)
{
    int fd = open(template->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = 1;

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return fail(ERR_NOT_FOUND, "there is no template %s", template->path);
    if (fd < 0)
        return fail(errno == EACCES ? ERR_DENIED : ERR_IO, "the template %s cannot be opened: %s",
                    template->path, strerror(errno));
    while (n > 0 && template->source.len <= TEMPLATE_BYTES_MAX) {
        n = read(fd, buffer_reserve(&template->source, TEMPLATE_BYTES_MAX), TEMPLATE_BYTES_MAX);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            template->source.len += (size_t)n;
    }
    close(fd);
    if (n < 0)
        return fail(ERR_IO, "the template %s cannot be read: %s", template->path, strerror(errno));
    if (template->source.len > TEMPLATE_BYTES_MAX)
        return fail(ERR_INPUT, "the template %s has more than %d bytes", template->path,
                    TEMPLATE_BYTES_MAX);
    return ERR_OK;
}

static enum err parse(struct document_template *template)
{
    struct json_error error;
    struct slice text = buffer_slice(&template->source);
    enum err rc;

    if (text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0) {
        text.data += 3;
        text.len -= 3;
    }
    rc = json_parse(&template->arena, text, NULL, &template->tree, &error);
    if (rc != ERR_OK)
        return fail(ERR_INPUT, "%s line %u: %s", template->path,
                    line_of(template, (size_t)(text.data - template->source.data) + error.offset),
                    error.message);
    if (!json_is_object(template->tree))
        return fail(ERR_INPUT, "%s line %u: a template is the JSON object of a body, not %s",
                    template->path, line_of_value(template, template->tree),
                    json_type_name(template->tree->type));
    if (json_get(template->tree, "body") != NULL && json_get(template->tree, "url") != NULL)
        return fail(ERR_INPUT,
                    "%s line %u: a template is what stands in `body`; the rest of the line is made "
                    "from the document",
                    template->path, line_of_value(template, template->tree));
    return ERR_OK;
}

/* Ends the current piece with a hole. */
static void end_piece(struct document_template *template, enum hole hole)
{
    template->piece =
        xrealloc(template->piece, (size_t) template->pieces + 1, sizeof(*template->piece));
    template->piece[template->pieces++] = (struct piece){template->begun, template->text.len, hole};
    template->begun = template->text.len;
}

/* The text as it stands inside a JSON string. */
static void add_escaped(struct buffer *to, struct slice text)
{
    struct buffer quoted = {0};

    json_write_string(&quoted, text);
    buffer_add(to, quoted.data + 1, quoted.len - 2);
    buffer_release(&quoted);
}

static enum hole find_hole(struct slice name)
{
    while (name.len > 0 && name.data[0] == ' ') {
        name.data++;
        name.len--;
    }
    while (name.len > 0 && name.data[name.len - 1] == ' ')
        name.len--;
    for (int i = 0; i < HOLE_NONE; i++)
        if (hole_names[i].len == name.len && memcmp(hole_names[i].data, name.data, name.len) == 0)
            return (enum hole)i;
    return HOLE_NONE;
}

static enum err refuse_hole(const struct document_template *template, const struct json *value,
                            struct slice rest)
{
    int len = 0;

    while (len < 40 && (size_t)len < rest.len && rest.data[len] >= ' ' && rest.data[len] != 0x7f)
        len++;
    while (len > 0 && (size_t)len < rest.len && (rest.data[len] & 0xc0) == 0x80)
        len--;
    return fail(ERR_INPUT, "%s line %u: \"%.*s\" is none of {{document}}, {{path}} and {{part}}",
                template->path, line_of_value(template, value), len, rest.data);
}

static enum err add_string(struct document_template *template, const struct json *value)
{
    struct slice left = value->text;

    buffer_add_byte(&template->text, '"');
    for (;;) {
        const char *open = memmem(left.data, left.len, "{{", 2);
        struct slice rest;
        const char *close;
        enum hole hole;

        if (open == NULL)
            break;
        rest = (struct slice){open, left.len - (size_t)(open - left.data)};
        close = memmem(rest.data, rest.len, "}}", 2);
        hole = close == NULL ? HOLE_NONE
                             : find_hole((struct slice){open + 2, (size_t)(close - open) - 2});
        if (hole == HOLE_NONE) {
            if (close != NULL)
                rest.len = (size_t)(close - open) + 2;
            return refuse_hole(template, value, rest);
        }
        add_escaped(&template->text, (struct slice){left.data, (size_t)(open - left.data)});
        end_piece(template, hole);
        template->has_document = template->has_document || hole == HOLE_DOCUMENT;
        left.len -= (size_t)(close + 2 - left.data);
        left.data = close + 2;
    }
    add_escaped(&template->text, left);
    buffer_add_byte(&template->text, '"');
    return ERR_OK;
}

static enum err add_key(struct document_template *template, const struct json *value)
{
    if (value->key.len > 0 && memmem(value->key.data, value->key.len, "{{", 2) != NULL)
        return fail(ERR_INPUT, "%s line %u: {{...}} may stand in strings, not in names",
                    template->path, line_of_value(template, value));
    json_write_string(&template->text, value->key);
    buffer_add_byte(&template->text, ':');
    return ERR_OK;
}

/* Writes a value without what is blank between its parts; as deep as json_parse() lets it be. */
static enum err add_value(struct document_template *template, const struct json *value)
{
    bool object = json_is_object(value);
    const struct json *child;
    enum err rc = ERR_OK;

    if (json_is_string(value))
        return add_string(template, value);
    if (!object && !json_is_array(value)) {
        buffer_add(&template->text, value->raw.data, value->raw.len);
        return ERR_OK;
    }
    buffer_add_byte(&template->text, object ? '{' : '[');
    json_each(child, value)
    {
        if (child != value->first)
            buffer_add_byte(&template->text, ',');
        if (object)
            rc = add_key(template, child);
        if (rc == ERR_OK)
            rc = add_value(template, child);
        if (rc != ERR_OK)
            return rc;
    }
    buffer_add_byte(&template->text, object ? '}' : ']');
    return ERR_OK;
}

static enum err find_endpoint(struct document_template *template)
{
    static const struct {
        const char *field;
        enum endpoint endpoint;
    } fields[] = {{"messages", ENDPOINT_CHAT},
                  {"prompt", ENDPOINT_COMPLETIONS},
                  {"input", ENDPOINT_EMBEDDINGS}};

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (json_get(template->tree, fields[i].field) != NULL) {
            template->endpoint = fields[i].endpoint;
            return ERR_OK;
        }
    }
    return fail(
        ERR_INPUT,
        "%s line %u: the body has none of `messages`, `prompt` and `input`, so nobody knows "
        "what it asks for",
        template->path, line_of_value(template, template->tree));
}

/* The value that `param` ("messages[2].content") is about, as near as there is one. */
static const struct json *find_param(const struct document_template *template, const char *param)
{
    size_t len = strcspn(param, "[.");
    const struct json *value = json_get_slice(template->tree, (struct slice){param, len});
    const struct json *child;
    unsigned long index;

    if (value == NULL)
        return template->tree;
    if (param[len] != '[' || !json_is_array(value))
        return value;
    index = strtoul(param + len + 1, NULL, 10);
    child = value->first;
    while (child != NULL && index-- > 0)
        child = child->next;
    return child != NULL ? child : value;
}

static void add_body(const struct document_template *template, const struct document_part *part,
                     struct buffer *ret)
{
    char number[40];

    snprintf(number, sizeof(number), "%" PRIu32 "/%" PRIu32, part->part, part->parts);
    for (uint32_t i = 0; i < template->pieces; i++) {
        const struct piece *piece = &template->piece[i];

        buffer_add(ret, template->text.data + piece->begin, piece->end - piece->begin);
        if (piece->hole == HOLE_DOCUMENT)
            add_escaped(ret, part->text);
        else if (piece->hole == HOLE_PATH)
            add_escaped(ret, (struct slice){part->path, strlen(part->path)});
        else if (piece->hole == HOLE_PART)
            buffer_add_text(ret, number);
    }
}

/* What a document becomes must be what the endpoint takes. */
static enum err try_body(struct document_template *template)
{
    const struct document_part part = {"path", SLICE("text"), 1, 1};
    struct request_error error = {0};
    struct buffer body = {0};
    struct request *request;
    enum err rc;

    add_body(template, &part, &body);
    rc = request_parse(&template->arena, buffer_slice(&body), template->endpoint, &request, &error);
    if (rc != ERR_OK)
        rc = fail(ERR_INPUT, "%s line %u: %s: %s", template->path,
                  line_of_value(template, find_param(template, error.param)), error.code,
                  error.message);
    buffer_release(&body);
    return rc;
}

static enum err check(struct document_template *template)
{
    const struct json *model = json_get(template->tree, "model");

    if (!template->has_document)
        return fail(ERR_INPUT, "%s line %u: {{document}} stands nowhere in the template",
                    template->path, line_of_value(template, template->tree));
    if (json_is_string(model)) {
        template->model = model->text;
        if (memmem(model->text.data, model->text.len, "{{", 2) != NULL)
            return fail(ERR_INPUT, "%s line %u: `model` is the same for all documents",
                        template->path, line_of_value(template, model));
    }
    return try_body(template);
}

enum err document_template_load(const char *path, const enum endpoint *endpoint,
                                struct document_template **ret)
{
    struct document_template *template = xcalloc(1, sizeof(*template));
    enum err rc;

    template->path = path;
    rc = read_file(template);
    if (rc == ERR_OK)
        rc = parse(template);
    if (rc == ERR_OK && endpoint != NULL)
        template->endpoint = *endpoint;
    else if (rc == ERR_OK)
        rc = find_endpoint(template);
    if (rc == ERR_OK)
        rc = add_value(template, template->tree);
    if (rc == ERR_OK) {
        end_piece(template, HOLE_NONE);
        rc = check(template);
    }
    if (rc != ERR_OK) {
        document_template_free(template);
        return rc;
    }
    *ret = template;
    return ERR_OK;
}

void document_template_free(struct document_template *template)
{
    if (template == NULL)
        return;
    buffer_release(&template->source);
    buffer_release(&template->text);
    arena_release(&template->arena);
    free(template->piece);
    free(template);
}

enum endpoint document_template_endpoint(const struct document_template *template)
{
    return template->endpoint;
}

struct slice document_template_model(const struct document_template *template)
{
    return template->model;
}

size_t document_template_bytes(const struct document_template *template)
{
    return template->text.len;
}

void document_template_id(const struct document_part *part, struct buffer *ret)
{
    assert(part->part >= 1 && part->part <= part->parts);
    buffer_add_text(ret, part->path);
    if (part->parts > 1)
        buffer_printf(ret, "#%" PRIu32 "/%" PRIu32, part->part, part->parts);
}

void document_template_line(const struct document_template *template,
                            const struct document_part *part, struct buffer *ret)
{
    struct buffer id = {0};

    document_template_id(part, &id);
    buffer_add_text(ret, "{\"custom_id\":\"");
    add_escaped(ret, buffer_slice(&id));
    buffer_release(&id);
    buffer_printf(
        ret, "\",\"method\":\"POST\",\"url\":\"%s\",\"body\":", endpoint_url(template->endpoint));
    add_body(template, part, ret);
    buffer_add_text(ret, "}\n");
}
