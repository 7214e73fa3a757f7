/*
 * json.c: yajl finds the tokens, this file makes the tree.
 *
 * yajl reports a token without saying where it began. Between the end of one token and the start of
 * the next stand only blanks, commas and colons, so the start is found by passing over these. With
 * the raw bytes of each string in hand, strings are decoded here and not taken from yajl, which
 * lets lone surrogates through. UTF-8 is checked once over the whole text for the same reason:
 * yajl accepts overlong forms. And what it takes for blanks beyond the standard (vertical tab, form
 * feed) is found where the blanks are passed over.
 */
#include "config/json.h"
#include "config/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

/* An array or object that is still open: where its next child is linked in. */
struct level {
    struct json *node;
    struct json **tail;
};

/* yajl makes a handle per text: its few small allocations come from here, larger from malloc. */
struct pool {
    size_t used;
    _Alignas(16) char bytes[1024];
};

struct parse {
    struct arena *arena;
    struct slice text;
    struct pool pool;
    yajl_handle yajl;
    bool finishing; /* yajl reads the blank that it adds itself at the end */
    size_t last;    /* where the last token ended */
    uint32_t depth;
    uint32_t depth_max;
    uint32_t nodes_left;
    struct level *levels; /* depth_max + 1; the first holds the root */
    struct slice key;
    struct json *root;
    bool failed;
    struct json_error *error;
};

static int refuse(struct parse *parse, enum json_fault fault, size_t offset, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));

/* Fills the error, keeping the first, and stops yajl (0). */
static int refuse(struct parse *parse, enum json_fault fault, size_t offset, const char *format,
                  ...)
{
    char sentence[120];
    va_list args;

    if (parse->failed)
        return 0;
    parse->failed = true;
    if (parse->error == NULL)
        return 0;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    parse->error->fault = fault;
    parse->error->offset = offset;
    snprintf(parse->error->message, sizeof(parse->error->message), "%s (byte %zu)", sentence,
             offset);
    return 0;
}

static const char no_blank[] = "between values only space, tab and line ends may stand";

/* The raw bytes of the token that yajl reports now, `last` moved behind it. */
static struct slice token(struct parse *parse)
{
    const char *data = parse->text.data;
    size_t start = parse->last;
    size_t end = parse->finishing ? parse->text.len : yajl_get_bytes_consumed(parse->yajl);

    while (start < end && (data[start] == ' ' || data[start] == '\n' || data[start] == '\r' ||
                           data[start] == '\t' || data[start] == ',' || data[start] == ':'))
        start++;
    if (start < end && (data[start] == '\v' || data[start] == '\f'))
        refuse(parse, JSON_SYNTAX, start, "not valid JSON: %s", no_blank);
    parse->last = end;
    return (struct slice){data + start, end - start};
}

static size_t offset_of(const struct parse *parse, const char *at)
{
    return (size_t)(at - parse->text.data);
}

/* A new value, linked in where it belongs; NULL when there are too many. */
static struct json *add_node(struct parse *parse, enum json_type type, struct slice raw)
{
    struct level *level = &parse->levels[parse->depth];
    struct json *node;

    if (parse->failed)
        return NULL;
    if (parse->nodes_left == 0) {
        refuse(parse, JSON_NODES, offset_of(parse, raw.data), "the text has too many values");
        return NULL;
    }
    parse->nodes_left--;
    node = arena_alloc(parse->arena, sizeof(*node));
    *node = (struct json){.type = type, .raw = raw, .key = parse->key};
    parse->key = (struct slice){0};
    *level->tail = node;
    level->tail = &node->next;
    if (level->node != NULL)
        level->node->count++;
    return node;
}

static uint32_t hex4(const char *at)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        char c = at[i];

        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static char short_escape(char letter)
{
    switch (letter) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return letter; /* quote, backslash or slash */
    }
}

/*
 * Decodes the escape at *at (behind its backslash) into `out` and moves *at behind it; 0 for half a
 * surrogate pair. yajl has seen that the escape is well formed.
 */
static size_t decode_escape(const char **at, const char *end, char out[4])
{
    char c = *(*at)++;
    uint32_t unit;

    if (c != 'u') {
        out[0] = short_escape(c);
        return 1;
    }
    unit = hex4(*at);
    *at += 4;
    if (unit >= 0xd800 && unit <= 0xdbff && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        uint32_t low = hex4(*at + 2);

        if (low >= 0xdc00 && low <= 0xdfff) {
            *at += 6;
            return utf8_encode(0x10000 + ((unit - 0xd800) << 10 | (low - 0xdc00)), out);
        }
    }
    return unit >= 0xd800 && unit <= 0xdfff ? 0 : utf8_encode(unit, out);
}

/* The content of a string token; without escapes it stays where it is. */
static bool decode_string(struct parse *parse, struct slice raw, struct slice *ret)
{
    const char *at = raw.data + 1;
    const char *end = raw.data + raw.len - 1;
    const char *escape = memchr(at, '\\', (size_t)(end - at));
    char *start, *out;

    if (escape == NULL) {
        *ret = (struct slice){at, (size_t)(end - at)};
        return true;
    }
    start = out = arena_alloc(parse->arena, (size_t)(end - at));
    while (escape != NULL) {
        char bytes[4];
        size_t run = (size_t)(escape - at);
        size_t len;

        memcpy(out, at, run);
        out += run;
        at = escape + 1;
        len = decode_escape(&at, end, bytes);
        if (len == 0) {
            refuse(parse, JSON_SURROGATE, offset_of(parse, escape),
                   "an escape is half of a surrogate pair");
            return false;
        }
        memcpy(out, bytes, len);
        out += len;
        escape = memchr(at, '\\', (size_t)(end - at));
    }
    memcpy(out, at, (size_t)(end - at));
    out += end - at;
    *ret = (struct slice){start, (size_t)(out - start)};
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

static int check_keys(struct parse *parse, const struct json *object)
{
    const struct json *twice =
        object->count <= FEW_KEYS ? twice_among_few(object) : twice_among_many(object);
    char shown[48];

    if (twice == NULL)
        return 1;
    return refuse(parse, JSON_DUPLICATE_KEY, offset_of(parse, twice->raw.data),
                  "the key \"%s\" appears twice in one object", show_key(shown, twice->key));
}

static int on_null_cb(void *data)
{
    struct parse *parse = data;

    return add_node(parse, JSON_NULL, token(parse)) != NULL;
}

static int on_boolean_cb(void *data, int boolean)
{
    struct parse *parse = data;
    struct json *node = add_node(parse, JSON_BOOL, token(parse));

    if (node == NULL)
        return 0;
    node->boolean = boolean != 0;
    return 1;
}

static int on_number_cb(void *data, const char *number, size_t len)
{
    struct parse *parse = data;
    struct json *node = add_node(parse, JSON_NUMBER, token(parse));

    (void)number;
    (void)len;
    if (node == NULL)
        return 0;
    node->text = node->raw;
    return 1;
}

static int on_string_cb(void *data, const unsigned char *string, size_t len)
{
    struct parse *parse = data;
    struct json *node = add_node(parse, JSON_STRING, token(parse));

    (void)string;
    (void)len;
    return node != NULL && decode_string(parse, node->raw, &node->text);
}

static int on_key_cb(void *data, const unsigned char *key, size_t len)
{
    struct parse *parse = data;
    struct slice raw;

    (void)key;
    (void)len;
    raw = token(parse);
    return !parse->failed && decode_string(parse, raw, &parse->key);
}

static int open_level(struct parse *parse, enum json_type type)
{
    struct slice raw = token(parse);
    struct json *node;

    if (parse->depth == parse->depth_max)
        return refuse(parse, JSON_DEPTH, offset_of(parse, raw.data),
                      "more than %u arrays and objects inside one another", parse->depth_max);
    node = add_node(parse, type, raw);
    if (node == NULL)
        return 0;
    parse->levels[++parse->depth] = (struct level){node, &node->first};
    return 1;
}

static struct json *close_level(struct parse *parse)
{
    struct slice raw = token(parse);
    struct json *node = parse->levels[parse->depth--].node;

    node->raw.len = (size_t)(raw.data + raw.len - node->raw.data);
    return node;
}

static int on_object_cb(void *data)
{
    return open_level(data, JSON_OBJECT);
}

static int on_object_end_cb(void *data)
{
    struct parse *parse = data;

    const struct json *object = close_level(parse);

    return !parse->failed && check_keys(parse, object);
}

static int on_array_cb(void *data)
{
    return open_level(data, JSON_ARRAY);
}

static int on_array_end_cb(void *data)
{
    struct parse *parse = data;

    close_level(parse);
    return !parse->failed;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null_cb,
    .yajl_boolean = on_boolean_cb,
    .yajl_number = on_number_cb,
    .yajl_string = on_string_cb,
    .yajl_start_map = on_object_cb,
    .yajl_map_key = on_key_cb,
    .yajl_end_map = on_object_end_cb,
    .yajl_start_array = on_array_cb,
    .yajl_end_array = on_array_end_cb,
};

static bool in_pool(const struct pool *pool, const void *memory)
{
    const char *at = memory;

    return at >= pool->bytes && at < pool->bytes + sizeof(pool->bytes);
}

static void *pool_malloc_cb(void *data, size_t size)
{
    struct pool *pool = data;
    size_t room = (size + 15) & ~(size_t)15;
    void *memory;

    if (size > sizeof(pool->bytes) || room > sizeof(pool->bytes) - pool->used)
        return xmalloc(size);
    memory = pool->bytes + pool->used;
    pool->used += room;
    return memory;
}

static void pool_free_cb(void *data, void *memory)
{
    if (!in_pool(data, memory))
        free(memory);
}

static void *pool_realloc_cb(void *data, void *old, size_t size)
{
    struct pool *pool = data;
    size_t room;
    void *memory;

    if (old == NULL || !in_pool(pool, old))
        return old == NULL ? pool_malloc_cb(data, size) : xrealloc(old, size, 1);
    room = (size_t)(pool->bytes + sizeof(pool->bytes) - (char *)old); /* at least what it had */
    memory = xmalloc(size);
    memcpy(memory, old, size < room ? size : room);
    return memory;
}

/* What yajl says, in our words; what is not here is said in its own. */
static const struct {
    const char *yajl;
    const char *ours;
} phrases[] = {
    {"premature EOF", "the text ends in the middle of a value"},
    {"trailing garbage", "something follows the value"},
    {"unallowed token at this point", "this is not what can follow here"},
    {"invalid char in json text", "no value begins with this character"},
    {"probable comment found", "comments are not allowed"},
    {"invalid object key", "a key must be a string"},
    {"object key and value must be separated by a colon", "a colon must follow a key"},
    {"invalid character inside string", "a control character in a string is not escaped"},
    {"inside a string, '\\' occurs", "a backslash in a string begins no known escape"},
    {"invalid (non-hex) character", "\\u is not followed by four hexadecimal digits"},
    {"malformed number", "a number is not complete"},
    {"after key and value, inside map", "a comma or } must follow a member"},
    {"after array element", "a comma or ] must follow an element"},
};

static void refuse_syntax(struct parse *parse, size_t offset)
{
    unsigned char *text = yajl_get_error(parse->yajl, 0, NULL, 0);
    const char *said = text != NULL ? (const char *)text : "";
    const char *colon = strstr(said, ": "); /* behind "lexical error" or "parse error" */

    if (colon != NULL)
        said = colon + 2;
    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
        if (strncmp(said, phrases[i].yajl, strlen(phrases[i].yajl)) == 0)
            said = phrases[i].ours;
    if (parse->root == NULL && parse->last == 0 && offset == parse->text.len &&
        said == phrases[0].ours)
        said = "the text is empty or ends in the middle of its first value";
    refuse(parse, JSON_SYNTAX, offset, "not valid JSON: %.*s", (int)strcspn(said, ".\n"), said);
    yajl_free_error(parse->yajl, text);
}

static void run_yajl(struct parse *parse)
{
    yajl_alloc_funcs memory = {pool_malloc_cb, pool_realloc_cb, pool_free_cb, &parse->pool};

    parse->yajl = yajl_alloc(&callbacks, &memory, parse);
    yajl_config(parse->yajl, yajl_dont_validate_strings, 1);
    if (yajl_parse(parse->yajl, (const unsigned char *)parse->text.data, parse->text.len) !=
        yajl_status_ok) {
        refuse_syntax(parse, yajl_get_bytes_consumed(parse->yajl));
    } else {
        parse->finishing = true;
        if (yajl_complete_parse(parse->yajl) != yajl_status_ok)
            refuse_syntax(parse, parse->text.len);
        for (size_t at = parse->last; at < parse->text.len; at++)
            if (strchr(" \t\r\n", parse->text.data[at]) == NULL)
                refuse(parse, JSON_SYNTAX, at, "not valid JSON: %s", no_blank);
    }
    yajl_free(parse->yajl);
}

enum err json_parse(struct arena *arena, struct slice text, const struct json_limits *limits,
                    struct json **ret, struct json_error *ret_error)
{
    struct parse parse;
    size_t valid;

    parse = (struct parse){
        .arena = arena,
        .text = text,
        .depth_max =
            limits != NULL && limits->depth_max > 0 ? limits->depth_max : JSON_DEPTH_DEFAULT,
        .nodes_left =
            limits != NULL && limits->nodes_max > 0 ? limits->nodes_max : JSON_NODES_DEFAULT,
        .error = ret_error,
    };
    if (parse.depth_max > JSON_DEPTH_MAX)
        parse.depth_max = JSON_DEPTH_MAX;
    if (text.len > JSON_TEXT_BYTES_MAX) {
        refuse(&parse, JSON_TOO_LONG, JSON_TEXT_BYTES_MAX, "the text is longer than 1 GiB");
        return ERR_INPUT;
    }
    valid = utf8_valid_len(text);
    if (valid < text.len) {
        refuse(&parse, JSON_UTF8, valid, "the text is not valid UTF-8");
        return ERR_INPUT;
    }
    parse.levels = arena_alloc(arena, (parse.depth_max + 1) * sizeof(struct level));
    parse.levels[0] = (struct level){NULL, &parse.root};
    run_yajl(&parse);
    if (!parse.failed && parse.root == NULL)
        refuse(&parse, JSON_SYNTAX, text.len, "not valid JSON: the text has no value");
    if (parse.failed)
        return ERR_INPUT;
    *ret = parse.root;
    return ERR_OK;
}
