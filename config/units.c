/* units.c: tables of units, largest first. */
#include "config/units.h"

#include <string.h>

struct unit {
    const char *name;
    uint64_t size;
};

static const struct unit times[] = {
    {"w", 7 * 24 * 3600 * 1000},
    {"d", 24 * 3600 * 1000},
    {"h", 3600 * 1000},
    {"m", 60 * 1000},
    {"s", 1000},
    {"ms", 1},
};

static const struct unit sizes[] = {
    {"TiB", 1ull << 40}, {"TB", 1000000000000}, {"GiB", 1 << 30},
    {"GB", 1000000000},  {"MiB", 1 << 20},      {"MB", 1000000},
    {"KiB", 1 << 10},    {"kB", 1000},          {"B", 1},
};

enum { TIMES = sizeof(times) / sizeof(times[0]), SIZES = sizeof(sizes) / sizeof(sizes[0]) };

/* The digits at the start of *text, which is moved behind them. */
static bool read_number(struct slice *text, uint64_t *ret)
{
    uint64_t number = 0;
    size_t len = 0;

    for (; len < text->len && text->data[len] >= '0' && text->data[len] <= '9'; len++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text->data[len] - '0'), &number))
            return false;
    *text = (struct slice){text->data + len, text->len - len};
    *ret = number;
    return len > 0;
}

/* The row whose name is the letters at the start of *text, which is moved behind them. */
static int read_unit(struct slice *text, const struct unit *units, int count)
{
    size_t len = 0;

    while (len < text->len && (text->data[len] < '0' || text->data[len] > '9'))
        len++;
    for (int i = 0; i < count; i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, text->data, len) == 0) {
            *text = (struct slice){text->data + len, text->len - len};
            return i;
        }
    }
    return -1;
}

bool duration_parse(struct slice text, uint64_t *ret_ms)
{
    uint64_t total = 0;
    int last = -1;

    do {
        uint64_t number;
        int unit;

        if (!read_number(&text, &number))
            return false;
        unit = read_unit(&text, times, TIMES);
        if (unit <= last || __builtin_mul_overflow(number, times[unit].size, &number) ||
            __builtin_add_overflow(total, number, &total))
            return false;
        last = unit;
    } while (text.len > 0);
    *ret_ms = total;
    return true;
}

void duration_add(struct buffer *buffer, uint64_t ms)
{
    size_t start = buffer->len;

    for (int i = 1; i < TIMES; i++) { /* weeks are read, not written */
        if (ms >= times[i].size) {
            buffer_add_u64(buffer, ms / times[i].size);
            buffer_add_text(buffer, times[i].name);
            ms %= times[i].size;
        }
    }
    if (buffer->len == start)
        buffer_add_text(buffer, "0s");
}

bool bytes_parse(struct slice text, uint64_t *ret_bytes)
{
    uint64_t number;
    int unit = SIZES - 1;

    if (!read_number(&text, &number))
        return false;
    if (text.len > 0)
        unit = read_unit(&text, sizes, SIZES);
    if (unit < 0 || text.len > 0 || __builtin_mul_overflow(number, sizes[unit].size, &number))
        return false;
    *ret_bytes = number;
    return true;
}

void bytes_add(struct buffer *buffer, uint64_t bytes)
{
    int unit = 0;

    while (unit < SIZES - 1 && (bytes == 0 || unit % 2 != 0 || bytes % sizes[unit].size != 0))
        unit++;
    buffer_add_u64(buffer, bytes / sizes[unit].size);
    buffer_add_text(buffer, sizes[unit].name);
}
