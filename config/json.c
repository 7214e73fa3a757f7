/*
 * json.c: one pass over the text, from token to token, with a stack of the arrays and objects that
 * are open. Nothing is looked at twice but strings with escapes, which are decoded into the arena.
 *
 * Speed matters here: every line of a submitted file comes by. UTF-8 is checked over the whole text
 * at once, and strings, which are most of it, are passed over eight bytes at a time (json_string.c).
 */
#include "config/json.h"
#include "config/json_string.h"
#include "config/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An array or object that is still open: where its next child is linked in. */
struct level {
    struct json *node;
    struct json **tail;
};

struct parse {
    struct arena *arena;
    struct slice text;
    const char *at; /* the next byte to be read */
    const char *end;
    uint32_t depth;
    uint32_t depth_max;
    uint32_t nodes_left;
    struct level *levels; /* depth_max + 1; the first holds the root */
    struct slice key;     /* of the next value, decoded */
    struct json *root;
    struct json_error *error;
};

static bool refuse(struct parse *parse, enum json_fault fault, const char *where,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Fills the error and returns false, which ends the parsing. */
static bool refuse(struct parse *parse, enum json_fault fault, const char *where,
                   const char *format, ...)
{
    struct json_error *error = parse->error;
    char sentence[120];
    va_list args;

    if (error == NULL)
        return false;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    error->fault = fault;
    error->offset = (size_t)(where - parse->text.data);
    snprintf(error->message, sizeof(error->message), "%s (byte %zu)", sentence, error->offset);
    return false;
}

/* The byte at `at` cannot stand there. */
static bool refuse_syntax(struct parse *parse, const char *sentence)
{
    if (parse->at == parse->end)
        sentence = parse->root == NULL
                       ? "the text is empty or ends in the middle of its first value"
                       : "the text ends in the middle of a value";
    else if (*parse->at == '/')
        sentence = "comments are not allowed";
    return refuse(parse, JSON_SYNTAX, parse->at, "not valid JSON: %s", sentence);
}

/* A new value, linked in where it belongs; NULL when there are too many. */
static struct json *add_node(struct parse *parse, enum json_type type, const char *start)
{
    struct level *level = &parse->levels[parse->depth];
    struct json *node;

    if (parse->nodes_left == 0) {
        refuse(parse, JSON_NODES, start, "the text has too many values");
        return NULL;
    }
    parse->nodes_left--;
    node = arena_alloc(parse->arena, sizeof(*node));
    *node = (struct json){.type = type, .raw = {start, 0}, .key = parse->key};
    parse->key = (struct slice){0};
    *level->tail = node;
    level->tail = &node->next;
    if (level->node != NULL)
        level->node->count++;
    return node;
}

static void skip_blanks(struct parse *parse)
{
    const char *at = parse->at;

    while (at < parse->end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    parse->at = at;
}

/* Passes over the string at `at`, a quote; *ret is what stands between its quotes, decoded. */
static bool read_text(struct parse *parse, struct slice *ret)
{
    const char *start = parse->at + 1;
    struct json_string string;
    char *out;

    if (!json_string_scan(start, parse->end, &string)) {
        parse->at = string.stop;
        return refuse_syntax(parse, string.why);
    }
    parse->at = string.stop + 1;
    *ret = (struct slice){start, (size_t)(string.stop - start)};
    if (!string.escaped)
        return true;
    out = arena_alloc(parse->arena, ret->len);
    if (!json_string_decode(start, &string, out, &ret->len))
        return refuse(parse, JSON_SURROGATE, string.stop, "an escape is half of a surrogate pair");
    ret->data = out;
    return true;
}

/* Children that are compared each with each; above, they are sorted. */
enum { FEW_KEYS = 8 };

static int compare_keys(const void *a, const void *b)
{
    const struct json *left = *(struct json *const *)a;
    const struct json *right = *(struct json *const *)b;
    int order;

    if (left->key.len != right->key.len)
        return left->key.len < right->key.len ? -1 : 1;
    order = memcmp(left->key.data, right->key.data, left->key.len);
    if (order != 0)
        return order;
    return left->raw.data < right->raw.data ? -1 : left->raw.data > right->raw.data;
}

static bool same_key(const struct json *a, const struct json *b)
{
    return a->key.len == b->key.len && memcmp(a->key.data, b->key.data, a->key.len) == 0;
}

static const struct json *twice_among_few(const struct json *object)
{
    for (const struct json *a = object->first; a != NULL; a = a->next)
        for (const struct json *b = a->next; b != NULL; b = b->next)
            if (same_key(a, b))
                return b;
    return NULL;
}

/* n log n whatever the keys are: no hash that an input could be aimed at. */
static const struct json *twice_among_many(const struct json *object)
{
    struct json **sorted = xmalloc(object->count * sizeof(struct json *));
    const struct json *found = NULL;
    struct json *child;
    size_t count = 0;

    json_each(child, object) sorted[count++] = child;
    qsort(sorted, count, sizeof(struct json *), compare_keys);
    for (size_t i = 1; i < count && found == NULL; i++)
        if (same_key(sorted[i - 1], sorted[i]))
            found = sorted[i];
    free(sorted);
    return found;
}

/* The key as it is shown in an error: its start, whole characters, no control characters. */
static const char *show_key(char out[48], struct slice key)
{
    size_t len = 0;

    while (len < key.len) {
        size_t step;
        uint32_t character = utf8_decode((struct slice){key.data + len, key.len - len}, &step);

        if (len + step > 40 || character < 0x20 || character == 0x7f)
            break;
        memcpy(out + len, key.data + len, step);
        len += step;
    }
    memcpy(out + len, len < key.len ? "..." : "", len < key.len ? 4 : 1);
    return out;
}

static bool check_keys(struct parse *parse, const struct json *object)
{
    const struct json *twice =
        object->count <= FEW_KEYS ? twice_among_few(object) : twice_among_many(object);
    char shown[48];

    if (twice == NULL)
        return true;
    return refuse(parse, JSON_DUPLICATE_KEY, twice->raw.data,
                  "the key \"%s\" appears twice in one object", show_key(shown, twice->key));
}

static bool read_key(struct parse *parse)
{
    skip_blanks(parse);
    if (parse->at == parse->end || *parse->at != '"')
        return refuse_syntax(parse, "a key must be a string");
    if (!read_text(parse, &parse->key))
        return false;
    skip_blanks(parse);
    if (parse->at == parse->end || *parse->at != ':')
        return refuse_syntax(parse, "a colon must follow a key");
    parse->at++;
    return true;
}

static bool read_string(struct parse *parse)
{
    struct json *node = add_node(parse, JSON_STRING, parse->at);

    if (node == NULL || !read_text(parse, &node->text))
        return false;
    node->raw.len = (size_t)(parse->at - node->raw.data);
    return true;
}

/* At least one digit. */
static bool scan_digits(struct parse *parse)
{
    const char *start = parse->at;

    while (parse->at < parse->end && *parse->at >= '0' && *parse->at <= '9')
        parse->at++;
    return parse->at > start;
}

static bool take(struct parse *parse, char one, char other)
{
    if (parse->at == parse->end || (*parse->at != one && *parse->at != other))
        return false;
    parse->at++;
    return true;
}

static bool read_number(struct parse *parse)
{
    struct json *node = add_node(parse, JSON_NUMBER, parse->at);
    bool complete;

    if (node == NULL)
        return false;
    take(parse, '-', '-');
    complete = take(parse, '0', '0') || scan_digits(parse);
    if (complete && take(parse, '.', '.'))
        complete = scan_digits(parse);
    if (complete && take(parse, 'e', 'E')) {
        take(parse, '+', '-');
        complete = scan_digits(parse);
    }
    if (!complete)
        return refuse_syntax(parse, "a number is not complete");
    node->raw.len = (size_t)(parse->at - node->raw.data);
    node->text = node->raw;
    return true;
}

static bool read_word(struct parse *parse, const char *word, enum json_type type, bool boolean)
{
    size_t len = strlen(word);
    struct json *node;

    if ((size_t)(parse->end - parse->at) < len || memcmp(parse->at, word, len) != 0)
        return refuse_syntax(parse, "no value begins with this character");
    node = add_node(parse, type, parse->at);
    if (node == NULL)
        return false;
    node->raw.len = len;
    node->boolean = boolean;
    parse->at += len;
    return true;
}

static bool open_level(struct parse *parse, enum json_type type)
{
    struct json *node;

    if (parse->depth == parse->depth_max)
        return refuse(parse, JSON_DEPTH, parse->at,
                      "more than %u arrays and objects inside one another", parse->depth_max);
    node = add_node(parse, type, parse->at);
    if (node == NULL)
        return false;
    parse->levels[++parse->depth] = (struct level){node, &node->first};
    parse->at++;
    return true;
}

/* Behind the closing bracket. */
static bool close_level(struct parse *parse)
{
    struct json *node = parse->levels[parse->depth--].node;

    node->raw.len = (size_t)(parse->at - node->raw.data);
    return node->type != JSON_OBJECT || check_keys(parse, node);
}

/* A whole value, or the beginning of an array or object. */
static bool read_value(struct parse *parse)
{
    skip_blanks(parse);
    switch (parse->at < parse->end ? *parse->at : '\0') {
    case '"':
        return read_string(parse);
    case '{':
        return open_level(parse, JSON_OBJECT);
    case '[':
        return open_level(parse, JSON_ARRAY);
    case 't':
        return read_word(parse, "true", JSON_BOOL, true);
    case 'f':
        return read_word(parse, "false", JSON_BOOL, false);
    case 'n':
        return read_word(parse, "null", JSON_NULL, false);
    case '-':
    case '0' ... '9':
        return read_number(parse);
    default:
        return refuse_syntax(parse, "no value begins with this character");
    }
}

/* The next member or element of the innermost level, or its end. */
static bool read_child(struct parse *parse)
{
    const struct json *node = parse->levels[parse->depth].node;
    bool object = node->type == JSON_OBJECT;
    char closing = object ? '}' : ']';

    skip_blanks(parse);
    if (parse->at < parse->end && *parse->at == closing) {
        parse->at++;
        return close_level(parse);
    }
    if (node->count > 0) {
        if (parse->at == parse->end || *parse->at != ',')
            return refuse_syntax(parse, object ? "a comma or } must follow a member"
                                               : "a comma or ] must follow an element");
        parse->at++;
    }
    return (!object || read_key(parse)) && read_value(parse);
}

static bool read_all(struct parse *parse)
{
    if (!read_value(parse))
        return false;
    while (parse->depth > 0)
        if (!read_child(parse))
            return false;
    skip_blanks(parse);
    return parse->at == parse->end || refuse_syntax(parse, "something follows the value");
}

static bool check_text(struct parse *parse)
{
    size_t valid;

    if (parse->text.len > JSON_TEXT_BYTES_MAX)
        return refuse(parse, JSON_TOO_LONG, parse->text.data + JSON_TEXT_BYTES_MAX,
                      "the text is longer than 1 GiB");
    valid = utf8_valid_len(parse->text);
    return valid == parse->text.len ||
           refuse(parse, JSON_UTF8, parse->text.data + valid, "the text is not valid UTF-8");
}

enum err json_parse(struct arena *arena, struct slice text, const struct json_limits *limits,
                    struct json **ret, struct json_error *ret_error)
{
    struct parse parse = {
        .arena = arena,
        .text = text,
        .at = text.data,
        .end = text.data + text.len,
        .depth_max =
            limits != NULL && limits->depth_max > 0 ? limits->depth_max : JSON_DEPTH_DEFAULT,
        .nodes_left =
            limits != NULL && limits->nodes_max > 0 ? limits->nodes_max : JSON_NODES_DEFAULT,
        .error = ret_error,
    };

    if (parse.depth_max > JSON_DEPTH_MAX)
        parse.depth_max = JSON_DEPTH_MAX;
    if (!check_text(&parse))
        return ERR_INPUT;
    parse.levels = arena_alloc(arena, (parse.depth_max + 1) * sizeof(struct level));
    parse.levels[0] = (struct level){NULL, &parse.root};
    if (!read_all(&parse))
        return ERR_INPUT;
    *ret = parse.root;
    return ERR_OK;
}
