/*
 * fuzz_json.c: whatever the bytes are, they are refused with a place and a sentence, or they make a
 * tree whose parts lie in the text, and which, written out, parses to the same tree.
 */
#include "config/json.h"
#include "config/utf8.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static bool same(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static void check_numbers(const struct json *value)
{
    uint64_t u64;
    int64_t i64;
    double f64;

    if (json_u64(value, &u64) && u64 <= INT64_MAX)
        must(json_i64(value, &i64) && i64 >= 0 && (uint64_t)i64 == u64);
    if (json_i64(value, &i64) && i64 >= 0)
        must(json_u64(value, &u64) && u64 == (uint64_t)i64);
    if (json_i64(value, &i64))
        must(json_f64(value, &f64) && f64 >= -9.3e18 && f64 <= 9.3e18);
}

/* Each part lies in the text and parses alone. */
static void check_tree(const struct json *value, struct slice text)
{
    const struct json *child, *before = NULL;
    uint32_t count = 0;

    must(value->raw.data >= text.data && value->raw.len > 0 &&
         value->raw.data + value->raw.len <= text.data + text.len);
    must(value->text.len == 0 || utf8_valid(value->text));
    check_numbers(value);
    json_each(child, value)
    {
        must(child->raw.data > value->raw.data);
        must(before == NULL || child->raw.data > before->raw.data + before->raw.len - 1);
        must((value->type == JSON_OBJECT) == (child->key.data != NULL));
        must(value->type != JSON_OBJECT || json_get_slice(value, child->key) == child);
        check_tree(child, value->raw);
        before = child;
        count++;
    }
    must(count == value->count);
}

static void write_tree(const struct json *value, struct buffer *out)
{
    const struct json *child;

    if (value->type == JSON_STRING) {
        json_write_string(out, value->text);
    } else if (value->type != JSON_ARRAY && value->type != JSON_OBJECT) {
        json_write_raw(out, value->raw);
    } else {
        json_write_open(out, value->type == JSON_ARRAY ? '[' : '{');
        json_each(child, value)
        {
            json_write_next(out);
            if (value->type == JSON_OBJECT) {
                json_write_string(out, child->key);
                buffer_add_byte(out, ':');
            }
            write_tree(child, out);
        }
        json_write_close(out, value->type == JSON_ARRAY ? ']' : '}');
    }
}

static void must_be_same(const struct json *a, const struct json *b)
{
    must(a->type == b->type && a->count == b->count && a->boolean == b->boolean);
    must(same(a->key, b->key) && same(a->text, b->text));
    a = a->first;
    b = b->first;
    for (; a != NULL && b != NULL; a = a->next, b = b->next)
        must_be_same(a, b);
    must(a == b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    struct arena arena = {0};
    struct buffer written = {0};
    struct json_error error = {.message = ""};
    struct json *value, *again;

    if (json_parse(&arena, text, NULL, &value, &error) == ERR_OK) {
        must(utf8_valid(text));
        check_tree(value, text);
        write_tree(value, &written);
        must(json_parse(&arena, buffer_slice(&written), NULL, &again, NULL) == ERR_OK);
        must_be_same(value, again);
        arena_clear(&arena);
        must(json_parse(&arena, text, NULL, &value, NULL) == ERR_OK);
    } else {
        must(error.offset <= size && error.message[0] != '\0');
        must(utf8_valid((struct slice){error.message, strlen(error.message)}));
    }
    buffer_clear(&written);
    json_write_string_clean(&written, text);
    must(json_parse(&arena, buffer_slice(&written), NULL, &value, NULL) == ERR_OK);
    must(!utf8_valid(text) || same(value->text, text));
    buffer_release(&written);
    arena_release(&arena);
    return 0;
}
