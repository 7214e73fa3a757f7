/* json_value.c: looking into a tree: members by name, numbers as C numbers. */
#include "config/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct json *json_get_slice(const struct json *object, struct slice key)
{
    struct json *child;

    if (!json_is_object(object))
        return NULL;
    json_each(child, object) if (child->key.len == key.len &&
                                 memcmp(child->key.data, key.data, key.len) == 0) return child;
    return NULL;
}

struct json *json_get(const struct json *object, const char *key)
{
    return json_get_slice(object, (struct slice){key, strlen(key)});
}

/* A number as written: sign, and digits x 10^exponent, the digits without zeros at either end. */
struct decimal {
    bool negative;
    uint64_t digits;
    int64_t exponent;
    bool fits; /* the digits are less than 2^64 */
};

/* An exponent beyond this changes nothing: no 64-bit number is that long. */
enum { EXPONENT_MAX = 1000000000 };

static int64_t read_exponent(const char *at, const char *end)
{
    bool negative = at < end && *at == '-';
    int64_t value = 0;

    if (at < end && (*at == '-' || *at == '+'))
        at++;
    for (; at < end; at++)
        if (value < EXPONENT_MAX)
            value = value * 10 + (*at - '0');
    return negative ? -value : value;
}

static struct decimal read_decimal(struct slice text)
{
    struct decimal decimal = {.fits = true};
    const char *at = text.data;
    const char *end = at + text.len;
    int64_t zeros = 0; /* seen since the last other digit */
    bool fraction = false;

    if (at < end && *at == '-') {
        decimal.negative = true;
        at++;
    }
    for (; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        decimal.exponent -= fraction;
        if (*at == '0') {
            zeros++;
            continue;
        }
        for (; zeros >= 0 && decimal.fits; zeros--)
            decimal.fits = !__builtin_mul_overflow(decimal.digits, 10u, &decimal.digits);
        zeros = 0;
        if (__builtin_add_overflow(decimal.digits, (uint64_t)(*at - '0'), &decimal.digits))
            decimal.fits = false;
    }
    decimal.exponent += zeros;
    if (at < end)
        decimal.exponent += read_exponent(at + 1, end);
    return decimal;
}

/* The whole number that a NUMBER is, if it is one and its size fits. */
static bool read_whole(const struct json *value, bool *ret_negative, uint64_t *ret)
{
    struct decimal decimal;

    if (!json_is_number(value))
        return false;
    decimal = read_decimal(value->text);
    if (decimal.digits == 0 && decimal.fits)
        decimal.exponent = 0;
    if (!decimal.fits || decimal.exponent < 0 || decimal.exponent > 19)
        return false;
    for (; decimal.exponent > 0; decimal.exponent--)
        if (__builtin_mul_overflow(decimal.digits, 10u, &decimal.digits))
            return false;
    *ret_negative = decimal.negative && decimal.digits > 0;
    *ret = decimal.digits;
    return true;
}

bool json_u64(const struct json *value, uint64_t *ret)
{
    bool negative;
    uint64_t size;

    if (!read_whole(value, &negative, &size) || negative)
        return false;
    *ret = size;
    return true;
}

bool json_i64(const struct json *value, int64_t *ret)
{
    bool negative;
    uint64_t size;

    if (!read_whole(value, &negative, &size) || size > (uint64_t)INT64_MAX + negative)
        return false;
    *ret = (int64_t)(negative ? 0 - size : size);
    return true;
}

bool json_f64(const struct json *value, double *ret)
{
    char local[64];
    char *copy = local;
    double number;

    if (!json_is_number(value))
        return false;
    if (value->text.len >= sizeof(local))
        copy = xmalloc(value->text.len + 1);
    memcpy(copy, value->text.data, value->text.len);
    copy[value->text.len] = '\0';
    number = strtod(copy, NULL);
    if (copy != local)
        free(copy);
    if (!isfinite(number))
        return false;
    *ret = number;
    return true;
}

const char *json_type_name(enum json_type type)
{
    static const char *const names[] = {"null",     "a boolean", "a number",
                                        "a string", "an array",  "an object"};

    return names[type];
}
