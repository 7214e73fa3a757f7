/* buffer.c: growth by doubling; arenas are chains of blocks. */
#include "config/buffer.h"
#include "config/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK_BYTES = 16384, ARENA_ALIGN = 16 };

static void die_of_memory(size_t size)
{
    log_error("memory.out", "bytes=%zu", size);
    abort();
}

void *xmalloc(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);

    if (memory == NULL)
        die_of_memory(size);
    return memory;
}

void *xcalloc(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size > 0 ? size : 1);

    if (memory == NULL)
        die_of_memory(size);
    return memory;
}

void *xrealloc(void *old, size_t count, size_t size)
{
    void *memory = reallocarray(old, count > 0 ? count : 1, size > 0 ? size : 1);

    if (memory == NULL)
        die_of_memory(size);
    return memory;
}

char *xstrdup(const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(xmalloc(size), text, size);
}

void buffer_release(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_wipe(struct buffer *buffer)
{
    if (buffer->data != NULL)
        explicit_bzero(buffer->data, buffer->cap);
    buffer_release(buffer);
}

void buffer_clear(struct buffer *buffer)
{
    buffer->len = 0;
    if (buffer->data != NULL)
        buffer->data[0] = '\0';
}

char *buffer_reserve(struct buffer *buffer, size_t more)
{
    size_t need;

    if (__builtin_add_overflow(buffer->len, more, &need) || __builtin_add_overflow(need, 1, &need))
        die_of_memory(more);
    if (need > buffer->cap) {
        size_t cap = buffer->cap < 64 ? 64 : buffer->cap;

        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        buffer->data = xrealloc(buffer->data, cap, 1);
        buffer->cap = cap;
    }
    return buffer->data + buffer->len;
}

void buffer_add(struct buffer *buffer, const void *data, size_t len)
{
    char *at = buffer_reserve(buffer, len);

    if (len > 0)
        memcpy(at, data, len);
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
}

void buffer_add_text(struct buffer *buffer, const char *text)
{
    buffer_add(buffer, text, strlen(text));
}

void buffer_add_byte(struct buffer *buffer, char byte)
{
    char *at = buffer_reserve(buffer, 1);

    at[0] = byte;
    at[1] = '\0';
    buffer->len++;
}

void buffer_add_u64(struct buffer *buffer, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buffer_add(buffer, digits + at, sizeof(digits) - at);
}

void buffer_add_i64(struct buffer *buffer, int64_t value)
{
    if (value < 0)
        buffer_add_byte(buffer, '-');
    buffer_add_u64(buffer, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    int need;

    va_start(args, format);
    need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (need < 0)
        return;
    buffer_reserve(buffer, (size_t)need);
    va_start(args, format);
    vsnprintf(buffer->data + buffer->len, (size_t)need + 1, format, args);
    va_end(args);
    buffer->len += (size_t)need;
}

char *buffer_detach(struct buffer *buffer)
{
    char *data = buffer->data;

    *buffer = (struct buffer){0};
    return data;
}

struct slice buffer_slice(const struct buffer *buffer)
{
    return (struct slice){buffer->data, buffer->len};
}

struct arena_block {
    struct arena_block *next; /* older */
    size_t size;              /* usable bytes */
    _Alignas(ARENA_ALIGN) char bytes[];
};

void arena_release(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    while (block != NULL) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
    *arena = (struct arena){0};
}

void arena_clear(struct arena *arena)
{
    struct arena_block *keep = arena->blocks;

    for (struct arena_block *block = arena->blocks; block != NULL; block = block->next)
        if (block->size > keep->size)
            keep = block;
    for (struct arena_block *block = arena->blocks; block != NULL;) {
        struct arena_block *next = block->next;

        if (block != keep)
            free(block);
        block = next;
    }
    arena->blocks = keep;
    arena->at = keep != NULL ? keep->bytes : NULL;
    arena->end = keep != NULL ? keep->bytes + keep->size : NULL;
    if (keep != NULL)
        keep->next = NULL;
}

static void add_block(struct arena *arena, size_t size)
{
    size_t room = size > ARENA_BLOCK_BYTES ? size : ARENA_BLOCK_BYTES;
    struct arena_block *block = xmalloc(sizeof(*block) + room);

    block->size = room;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->at = block->bytes;
    arena->end = block->bytes + room;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    void *memory;

    if (size > SIZE_MAX / 2)
        die_of_memory(size);
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (arena->at == NULL || (size_t)(arena->end - arena->at) < size)
        add_block(arena, size);
    memory = arena->at;
    arena->at += size;
    return memory;
}

void *arena_zalloc(struct arena *arena, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        die_of_memory(count);
    return memset(arena_alloc(arena, total), 0, total);
}

char *arena_copy(struct arena *arena, const char *data, size_t len)
{
    char *copy = arena_alloc(arena, len + 1);

    if (len > 0)
        memcpy(copy, data, len);
    copy[len] = '\0';
    return copy;
}
