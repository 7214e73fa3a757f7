/*
 * json.h: JSON texts (RFC 8259) as trees, and JSON written into a buffer.
 *
 * Reading is strict: one value and nothing after it, valid UTF-8, no byte order mark, no comments,
 * no lone surrogate escapes, and no key twice in one object (two spellings of one key, "a" and
 * "\u0061", are the same key). A text that is refused is an expected outcome: nothing is logged,
 * the error says where and why.
 *
 * A tree lies in the caller's arena and borrows the text: names and strings without escapes, and
 * all `raw` slices, point into it, so the text must live as long as the tree. Pure functions of
 * their arguments; any thread.
 */
#ifndef MSERVE_CONFIG_JSON_H
#define MSERVE_CONFIG_JSON_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    bool boolean;       /* BOOL */
    uint32_t count;     /* ARRAY, OBJECT: children */
    struct slice raw;   /* the bytes of the value in the text, quotes and brackets included */
    struct slice key;   /* in an OBJECT: the decoded name; else {NULL, 0} */
    struct slice text;  /* STRING: decoded, may contain NUL; NUMBER: the digits as written */
    struct json *first; /* ARRAY, OBJECT: first child or NULL */
    struct json *next;  /* next child of the same parent, in the order of the text, or NULL */
};

enum {
    JSON_DEPTH_DEFAULT = 64,
    JSON_DEPTH_MAX = 1024,
    JSON_NODES_DEFAULT = 1 << 20,
    JSON_TEXT_BYTES_MAX = 1 << 30,
};

/* 0 means the default; NULL limits are all defaults. */
struct json_limits {
    uint32_t depth_max; /* arrays and objects inside one another; at most JSON_DEPTH_MAX */
    uint32_t nodes_max; /* values in the text */
};

enum json_fault {
    JSON_SYNTAX,
    JSON_UTF8,
    JSON_SURROGATE,
    JSON_DUPLICATE_KEY,
    JSON_DEPTH,
    JSON_NODES,
    JSON_TOO_LONG,
};

struct json_error {
    enum json_fault fault;
    size_t offset;     /* the byte of the text, from 0, that cannot stand there */
    char message[160]; /* "the key \"a\" appears twice in one object (byte 17)"; valid UTF-8 */
};

/*
 * Reads one JSON value. ERR_INPUT with *ret_error filled when it is refused (ret_error may be
 * NULL); *ret is set on success only.
 */
enum err json_parse(struct arena *arena, struct slice text, const struct json_limits *limits,
                    struct json **ret, struct json_error *ret_error);

/* The member of that name, or NULL: no such member, or `object` is NULL or no object. */
struct json *json_get(const struct json *object, const char *key);
struct json *json_get_slice(const struct json *object, struct slice key);

/* for (children of an array or object): struct json *item; json_each(item, array) { … } */
#define json_each(child, parent)                                                                   \
    for ((child) = (parent)->first; (child) != NULL; (child) = (child)->next)

/* All of these are false for NULL, so json_is_string(json_get(object, "x")) reads well. */
static inline bool json_is(const struct json *value, enum json_type type)
{
    return value != NULL && value->type == type;
}

static inline bool json_is_null(const struct json *value)
{
    return json_is(value, JSON_NULL);
}

static inline bool json_is_bool(const struct json *value)
{
    return json_is(value, JSON_BOOL);
}

static inline bool json_is_number(const struct json *value)
{
    return json_is(value, JSON_NUMBER);
}

static inline bool json_is_string(const struct json *value)
{
    return json_is(value, JSON_STRING);
}

static inline bool json_is_array(const struct json *value)
{
    return json_is(value, JSON_ARRAY);
}

static inline bool json_is_object(const struct json *value)
{
    return json_is(value, JSON_OBJECT);
}

/* True when `value` is a string of exactly these bytes. */
static inline bool json_equals(const struct json *value, const char *text)
{
    return json_is_string(value) && value->text.len == strlen(text) &&
           memcmp(value->text.data, text, value->text.len) == 0;
}

/*
 * Numbers. False when `value` is no number, not whole (1.0 and 1e2 are), or does not fit; *ret is
 * set on success only. json_f64 gives the nearest double and refuses what is larger than all.
 */
bool json_u64(const struct json *value, uint64_t *ret);
bool json_i64(const struct json *value, int64_t *ret);
bool json_f64(const struct json *value, double *ret);

/* "null", "a boolean", "a number", "a string", "an array", "an object": for error sentences. */
const char *json_type_name(enum json_type type);

/*
 * Writing. Each call adds one piece; commas are put where the last byte written shows that one is
 * needed:
 *
 *   json_write_open(b, '{');
 *   json_write_key(b, "id");
 *   json_write_string(b, id);
 *   json_write_key(b, "rows");
 *   json_write_u64(b, 12);
 *   json_write_close(b, '}');
 *
 * In an array each element is begun with json_write_next().
 */
void json_write_open(struct buffer *buffer, char bracket);  /* '{' or '[' */
void json_write_close(struct buffer *buffer, char bracket); /* '}' or ']' */
void json_write_key(struct buffer *buffer, const char *key);
void json_write_next(struct buffer *buffer);

/* `text` is valid UTF-8 (what json_parse gave is). Escapes only what must be. */
void json_write_string(struct buffer *buffer, struct slice text);
void json_write_text(struct buffer *buffer, const char *text); /* NULL writes null */

/* The same for bytes of unknown origin: what is not UTF-8 becomes U+FFFD. */
void json_write_string_clean(struct buffer *buffer, struct slice text);

void json_write_u64(struct buffer *buffer, uint64_t value);
void json_write_i64(struct buffer *buffer, int64_t value);
void json_write_bool(struct buffer *buffer, bool value);
void json_write_null(struct buffer *buffer);
void json_write_raw(struct buffer *buffer, struct slice json); /* a JSON value as it stands */

/* The shortest digits that read back as the same value; NaN and infinities become null. */
void json_write_f64(struct buffer *buffer, double value);
void json_write_f32(struct buffer *buffer, float value);

#endif
