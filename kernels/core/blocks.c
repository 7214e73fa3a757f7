/*
 * blocks.c: which KV blocks a running sequence has, and who gives way when there are none.
 *
 * Blocks are a hard limit. Who finds none, free or kept, has the youngest sequence evicted: it gives
 * up its slot, waits, and reads its ids again later. The oldest is never evicted for another, and
 * the pool holds at least one whole context, so it always gets on: no deadlock.
 */
#include "kernels/core/core.h"

#include <assert.h>

enum { BLOCK = DEVICE_BLOCK_TOKENS };

uint32_t *table_of(const struct engine *engine, uint32_t slot)
{
    return engine->slots->blocks + (size_t)slot * engine->slots->blocks_stride;
}

void release_slot(struct engine *engine, uint32_t slot)
{
    prefix_give_back(&engine->prefix, table_of(engine, slot), engine->slot_blocks[slot],
                     engine->slot_leaving[slot]);
    engine->slot_blocks[slot] = 0;
    engine->slot_leaving[slot] = false;
    engine->free_slots[engine->free_slots_len++] = slot;
}

void leave_slot(struct engine *engine, uint32_t slot)
{
    assert(!engine->slot_leaving[slot]);
    engine->slot_leaving[slot] = true;
    kv_leave(&engine->kv, table_of(engine, slot), engine->slot_blocks[slot]);
}

void stop_running(struct engine *engine, struct sequence *sequence)
{
    assert(sequence->state == SEQUENCE_RUNNING);
    engine->running--;
    engine->most_blocks -= (sequence->limit + BLOCK - 1) / BLOCK;
    sequence->plain = 0;
}

void requeue_sequence(struct engine *engine, struct sequence *sequence)
{
    assert(sequence->flights == 0);
    if (sequence->group != NULL)
        prefix_restart(&engine->prefix, sequence);
    release_slot(engine, sequence->slot);
    if (sequence->paid < sequence->computed)
        sequence->paid = sequence->computed;
    sequence->computed = sequence->room = 0;
    sequence->flags &= ~(uint32_t)SEQUENCE_EVICTED;
    sequence->state = SEQUENCE_WAITING;
    waiting_add(&engine->waiting, sequence);
}

void grow_table(struct engine *engine, struct sequence *sequence, uint32_t positions)
{
    uint32_t *table = table_of(engine, sequence->slot);
    uint32_t *len = &engine->slot_blocks[sequence->slot];

    while (sequence->room < positions && (kv_take(&engine->kv, &table[*len]) ||
                                          prefix_reclaim(&engine->prefix, true, &table[*len]))) {
        ++*len;
        sequence->room += BLOCK;
    }
    sequence_reserve(sequence, sequence->room + 2); /* and for the id sampled after the last */
}

static void evict(struct engine *engine, struct sequence *sequence)
{
    engine->evictions++;
    stop_running(engine, sequence);
    if (sequence->flights == 0) {
        requeue_sequence(engine, sequence);
        return;
    }
    sequence->state = SEQUENCE_LEAVING;
    sequence->flags |= SEQUENCE_EVICTED;
    engine->evicting++;
    leave_slot(engine, sequence->slot);
}

/* The youngest that holds blocks; `sequence` itself when none is younger. */
static struct sequence *find_victim(const struct engine *engine, struct sequence *sequence)
{
    for (uint32_t i = engine->run_len; i > 0; i--) {
        struct sequence *other = engine->run[i - 1];

        if (other == sequence)
            break;
        if (other->state == SEQUENCE_RUNNING && other->computed > 0)
            return other;
    }
    return sequence;
}

bool find_room(struct engine *engine, struct sequence *sequence, uint32_t *starved)
{
    grow_table(engine, sequence, sequence->computed + 1);
    while (sequence->room == sequence->computed && engine->kv.coming <= *starved) {
        struct sequence *victim = find_victim(engine, sequence);

        evict(engine, victim);
        if (victim == sequence)
            return false;
        grow_table(engine, sequence, sequence->computed + 1);
    }
    *starved += sequence->room == sequence->computed;
    return sequence->room > sequence->computed;
}
