/* waiting.c: two lists and a heap for each kind of turn. */
#include "kernels/core/waiting.h"

#include <assert.h>
#include <stdlib.h>

void waiting_init(struct waiting *waiting, uint32_t patience)
{
    *waiting = (struct waiting){.patience = patience};
}

void waiting_release(struct waiting *waiting)
{
    for (int i = 0; i < WAITING_HEAPS; i++)
        free(waiting->heap[i].at);
    *waiting = (struct waiting){0};
}

/* 0 for 0, else the number of bits. */
static uint32_t octave(uint32_t number)
{
    return number == 0 ? 0 : 32 - (uint32_t)__builtin_clz(number);
}

static uint64_t place(const struct sequence *sequence)
{
    return sequence->group != NULL ? sequence->group->order : sequence->order;
}

static bool before(const struct sequence *a, const struct sequence *b)
{
    const uint32_t rows_a = octave(a->limit + 1 - a->len), rows_b = octave(b->limit + 1 - b->len);

    if (a->heap > 0)
        return a->order < b->order;
    if (rows_a != rows_b)
        return rows_a > rows_b;
    return place(a) != place(b) ? place(a) < place(b) : a->order < b->order;
}

static void put(struct waiting_heap *heap, uint32_t at, struct sequence *sequence)
{
    heap->at[at] = sequence;
    sequence->heap_at = at;
}

static void sift_up(struct waiting_heap *heap, uint32_t at)
{
    struct sequence *sequence = heap->at[at];

    for (; at > 0 && before(sequence, heap->at[(at - 1) / 2]); at = (at - 1) / 2)
        put(heap, at, heap->at[(at - 1) / 2]);
    put(heap, at, sequence);
}

static void sift_down(struct waiting_heap *heap, uint32_t at)
{
    struct sequence *sequence = heap->at[at];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child + 1 < heap->len && before(heap->at[child + 1], heap->at[child]))
            child++;
        if (child >= heap->len || !before(heap->at[child], sequence))
            break;
        put(heap, at, heap->at[child]);
        at = child;
    }
    put(heap, at, sequence);
}

static void heap_add(struct waiting_heap *heap, struct sequence *sequence)
{
    if (heap->len == heap->cap) {
        heap->cap = heap->cap > 0 ? 2 * heap->cap : 64;
        heap->at = xrealloc(heap->at, heap->cap, sizeof(*heap->at));
    }
    heap->at[heap->len] = sequence;
    sift_up(heap, heap->len++);
}

static void heap_drop(struct waiting_heap *heap, struct sequence *sequence)
{
    const uint32_t at = sequence->heap_at;

    assert(heap->at[at] == sequence);
    if (at == --heap->len)
        return;
    put(heap, at, heap->at[heap->len]);
    sift_up(heap, at);
    sift_down(heap, heap->at[at]->heap_at);
}

void waiting_add(struct waiting *waiting, struct sequence *sequence)
{
    if (sequence->ran) {
        sequence_list_insert(&waiting->evicted, sequence);
        return;
    }
    sequence->due = waiting->admitted + waiting->fresh.len + waiting->patience;
    sequence->heap = sequence->flags & SEQUENCE_EMBED ? 1 + octave(sequence->len) : 0;
    sequence_list_add(&waiting->fresh, sequence);
    heap_add(&waiting->heap[sequence->heap], sequence);
}

/* The longest that fit into `rows`; with most of a step at hand, a longer one in parts. */
static struct sequence *next_embedding(const struct waiting *waiting, uint32_t rows,
                                       uint32_t rows_max)
{
    const uint32_t widest = octave(rows);

    if (waiting->heap[1 + widest].len > 0 && waiting->heap[1 + widest].at[0]->len <= rows)
        return waiting->heap[1 + widest].at[0];
    for (uint32_t i = widest; i > 0; i--)
        if (waiting->heap[i].len > 0)
            return waiting->heap[i].at[0];
    for (uint32_t i = 1 + widest; i < WAITING_HEAPS && rows > rows_max / 2; i++)
        if (waiting->heap[i].len > 0)
            return waiting->heap[i].at[0];
    return NULL;
}

struct sequence *waiting_next(const struct waiting *waiting, uint32_t rows, uint32_t rows_max)
{
    if (waiting->evicted.first != NULL)
        return waiting->evicted.first;
    if (waiting->fresh.first != NULL && waiting->fresh.first->due <= waiting->admitted)
        return waiting->fresh.first;
    if (waiting->heap[0].len > 0)
        return waiting->heap[0].at[0];
    return next_embedding(waiting, rows, rows_max);
}

void waiting_drop(struct waiting *waiting, struct sequence *sequence)
{
    if (sequence->ran) {
        sequence_list_drop(&waiting->evicted, sequence);
        return;
    }
    sequence_list_drop(&waiting->fresh, sequence);
    heap_drop(&waiting->heap[sequence->heap], sequence);
}

void waiting_admit(struct waiting *waiting, struct sequence *sequence)
{
    waiting_drop(waiting, sequence);
    if (sequence->ran)
        return;
    sequence->ran = true;
    sequence->order = waiting->admitted++;
}
