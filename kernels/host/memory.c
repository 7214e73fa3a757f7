/* memory.c: small pieces from the heap, where sanitizers watch their ends; large ones are mapped. */
#include "kernels/host/memory.h"

#include "config/buffer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct memory_piece {
    void *at;
    size_t mapped; /* 0: of the heap */
};

/* At a multiple of the huge page's size: what lies around it is given back. */
static void *map(size_t size)
{
    char *at =
        mmap(NULL, size + MEMORY_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (at == MAP_FAILED)
        return NULL;
    before = (MEMORY_HUGE - (uintptr_t)at % MEMORY_HUGE) % MEMORY_HUGE;
    if (before > 0)
        munmap(at, before);
    munmap(at + before + size, MEMORY_HUGE - before);
    madvise(at + before, size, MADV_HUGEPAGE); /* without it, small pages serve */
    return at + before;
}

static void *take(size_t bytes, size_t *ret_mapped)
{
    size_t unit = bytes >= MEMORY_HUGE ? (size_t)sysconf(_SC_PAGESIZE) : MEMORY_ALIGN;
    size_t size = (bytes + unit - 1) / unit * unit;
    void *at;

    if (bytes > SIZE_MAX - 2 * (size_t)MEMORY_HUGE)
        return NULL;
    if (bytes >= MEMORY_HUGE) {
        *ret_mapped = size;
        return map(size);
    }
    *ret_mapped = 0;
    size = size > 0 ? size : unit;
    at = aligned_alloc(MEMORY_ALIGN, size);
    if (at != NULL)
        memset(at, 0, size);
    return at;
}

void *memory_take(struct memory *memory, size_t bytes)
{
    size_t mapped;
    void *at = take(bytes, &mapped);

    if (at == NULL)
        return NULL;
    memory->pieces = xrealloc(memory->pieces, memory->len + 1u, sizeof(*memory->pieces));
    memory->pieces[memory->len++] = (struct memory_piece){at, mapped};
    memory->bytes += bytes;
    return at;
}

void memory_release(struct memory *memory)
{
    for (uint32_t i = 0; i < memory->len; i++)
        if (memory->pieces[i].mapped > 0)
            munmap(memory->pieces[i].at, memory->pieces[i].mapped);
        else
            free(memory->pieces[i].at);
    free(memory->pieces);
    *memory = (struct memory){0};
}
