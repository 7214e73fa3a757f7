/*
 * buffer.h: the growable run of bytes, and the arena from which short-lived things come.
 *
 * Memory that runs out ends the process with a line in the log (abort): every size that comes from
 * outside is checked against a limit before it gets here, so that running out is never an answer to
 * one bad input.
 */
#ifndef MSERVE_CONFIG_BUFFER_H
#define MSERVE_CONFIG_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that are borrowed: `data` belongs to somebody else and may be without a final NUL. */
struct slice {
    const char *data;
    size_t len;
};

#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})

/* {0} is a valid empty buffer. `data[len]` is always NUL once something was written. */
struct buffer {
    char *data;
    size_t len;
    size_t cap;
};

void buffer_release(struct buffer *buffer);
void buffer_clear(struct buffer *buffer); /* len = 0, keeps the memory */

/* Makes room for `more` bytes after `len` (and a NUL) and returns where they start. */
char *buffer_reserve(struct buffer *buffer, size_t more);
void buffer_add(struct buffer *buffer, const void *data, size_t len);
void buffer_add_text(struct buffer *buffer, const char *text);
void buffer_add_byte(struct buffer *buffer, char byte);
void buffer_add_u64(struct buffer *buffer, uint64_t value); /* in decimal */
void buffer_add_i64(struct buffer *buffer, int64_t value);
void buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The bytes become the caller's to free(); the buffer is empty. */
char *buffer_detach(struct buffer *buffer);

/* Overwrites all it held, so that no secret stays in memory, and releases it. */
void buffer_wipe(struct buffer *buffer);

struct slice buffer_slice(const struct buffer *buffer);

/*
 * An arena: allocations that end together. {0} is a valid empty arena; memory is aligned to 16 and
 * not zeroed. arena_clear() forgets all allocations and keeps the largest block for reuse.
 */
struct arena_block;
struct arena {
    struct arena_block *blocks;
    char *at;
    char *end;
};

void arena_release(struct arena *arena);
void arena_clear(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size);
void *arena_zalloc(struct arena *arena, size_t count, size_t size);  /* zeroed, overflow-checked */
char *arena_copy(struct arena *arena, const char *data, size_t len); /* with a final NUL */

/* malloc family that never returns NULL: logs and aborts. Sizes are overflow-checked. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t count, size_t size);
char *xstrdup(const char *text);

#endif
