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

/* Nothing for an embedding and for what goes on; else octave, then group, in one number; then the order of submission. */
static struct waiting_entry make_entry(struct sequence *sequence)
{
    const uint64_t place = sequence->group != NULL ? sequence->group->order : sequence->order;
    const uint32_t tokens = sequence->limit + 1 - sequence->len;

    if (sequence->heap > 0 || sequence_tokens_len(sequence) > 0)
        return (struct waiting_entry){0, sequence->order, sequence};
    return (struct waiting_entry){(uint64_t)(33 - octave(tokens)) << 56 | place, sequence->order,
                                  sequence};
}

static bool before(const struct waiting_entry *a, const struct waiting_entry *b)
{
    return a->first < b->first || (a->first == b->first && a->second < b->second);
}

static void put(struct waiting_heap *heap, uint32_t at, struct waiting_entry entry)
{
    heap->at[at] = entry;
    entry.sequence->heap_at = at;
}

static void sift_up(struct waiting_heap *heap, uint32_t at)
{
    const struct waiting_entry entry = heap->at[at];

    for (; at > 0 && before(&entry, &heap->at[(at - 1) / 2]); at = (at - 1) / 2)
        put(heap, at, heap->at[(at - 1) / 2]);
    put(heap, at, entry);
}

static void sift_down(struct waiting_heap *heap, uint32_t at)
{
    const struct waiting_entry entry = heap->at[at];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child + 1 < heap->len && before(&heap->at[child + 1], &heap->at[child]))
            child++;
        if (child >= heap->len || !before(&heap->at[child], &entry))
            break;
        put(heap, at, heap->at[child]);
        at = child;
    }
    put(heap, at, entry);
}

static void heap_add(struct waiting_heap *heap, struct sequence *sequence)
{
    if (heap->len == heap->cap) {
        heap->cap = heap->cap > 0 ? 2 * heap->cap : 64;
        heap->at = xrealloc(heap->at, heap->cap, sizeof(*heap->at));
    }
    heap->at[heap->len] = make_entry(sequence);
    sift_up(heap, heap->len++);
}

static void heap_drop(struct waiting_heap *heap, struct sequence *sequence)
{
    const uint32_t at = sequence->heap_at;

    assert(heap->at[at].sequence == sequence);
    if (at == --heap->len)
        return;
    put(heap, at, heap->at[heap->len]);
    sift_up(heap, at);
    sift_down(heap, heap->at[at].sequence->heap_at);
}

static struct sequence *top(const struct waiting_heap *heap)
{
    return heap->len > 0 ? heap->at[0].sequence : NULL;
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
    struct sequence *sequence = top(&waiting->heap[1 + widest]);

    if (sequence != NULL && sequence->len <= rows)
        return sequence;
    for (uint32_t i = widest; i > 0; i--)
        if ((sequence = top(&waiting->heap[i])) != NULL)
            return sequence;
    for (uint32_t i = 1 + widest; i < WAITING_HEAPS && rows > rows_max / 2; i++)
        if ((sequence = top(&waiting->heap[i])) != NULL)
            return sequence;
    return NULL;
}

struct sequence *waiting_next(const struct waiting *waiting, uint32_t rows, uint32_t rows_max)
{
    if (waiting->evicted.first != NULL)
        return waiting->evicted.first;
    if (waiting->fresh.first != NULL && waiting->fresh.first->due <= waiting->admitted)
        return waiting->fresh.first;
    if (waiting->heap[0].len > 0)
        return top(&waiting->heap[0]);
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
