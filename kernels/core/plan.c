/*
 * plan.c: what the next step works on. First a row for every sequence that decodes, then, within
 * the token budget, chunks of what is still to be read, oldest first, then new sequences.
 *
 * KV BLOCKS are a hard limit. Who finds none has the youngest sequence evicted: it gives up its
 * blocks, waits, and reads its ids again later. The oldest is never evicted for another, and the
 * pool holds at least one whole context, so it always gets on: no deadlock.
 */
#include "kernels/core/core.h"

#include <assert.h>
#include <string.h>

enum { BLOCK = DEVICE_BLOCK_TOKENS };

void release_slot(struct engine *engine, uint32_t slot)
{
    kv_give_back(&engine->kv, engine->slots->blocks + (size_t)slot * engine->slots->blocks_stride,
                 engine->slot_blocks[slot]);
    engine->slot_blocks[slot] = 0;
    engine->free_slots[engine->free_slots_len++] = slot;
}

void requeue_sequence(struct engine *engine, struct sequence *sequence)
{
    assert(sequence->flights == 0);
    release_slot(engine, sequence->slot);
    if (sequence->paid < sequence->computed)
        sequence->paid = sequence->computed;
    sequence->computed = sequence->plain = sequence->room = 0;
    sequence->flags &= ~(uint32_t)SEQUENCE_EVICTED;
    sequence->state = SEQUENCE_WAITING;
    sequence_list_insert(&engine->waiting, sequence);
}

/* Takes blocks until `positions` fit or none is free. */
static void grow_table(struct engine *engine, struct sequence *sequence, uint32_t positions)
{
    uint32_t *table = engine->slots->blocks + (size_t)sequence->slot * engine->slots->blocks_stride;
    uint32_t *len = &engine->slot_blocks[sequence->slot];

    while (sequence->room < positions && kv_take(&engine->kv, &table[*len])) {
        ++*len;
        sequence->room += BLOCK;
    }
    sequence_reserve(sequence, sequence->room + 2); /* and for the id sampled after the last */
}

static void evict(struct engine *engine, struct sequence *sequence)
{
    engine->running--;
    sequence->plain = 0;
    if (sequence->flights == 0) {
        requeue_sequence(engine, sequence);
        return;
    }
    sequence->state = SEQUENCE_LEAVING;
    sequence->flags |= SEQUENCE_EVICTED;
    engine->evicting++;
    engine->coming_blocks += engine->slot_blocks[sequence->slot];
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

/*
 * Room for at least one more position, evicting where it must be. False: not in this step; enough
 * blocks are on their way, or it was itself the one to go.
 */
static bool find_room(struct engine *engine, struct sequence *sequence, uint32_t *starved)
{
    grow_table(engine, sequence, sequence->computed + 1);
    while (sequence->room == sequence->computed && engine->coming_blocks <= *starved) {
        struct sequence *victim = find_victim(engine, sequence);

        evict(engine, victim);
        if (victim == sequence)
            return false;
        grow_table(engine, sequence, sequence->computed + 1);
    }
    *starved += sequence->room == sequence->computed;
    return sequence->room > sequence->computed;
}

/*
 * A decode entry always looks the same but for its slot and its context, and the decodes come first
 * in a step: what is the same was written by the step before in this step slot.
 */
static void write_prefix(struct flight *flight, uint32_t len)
{
    struct step *step = flight->step;

    for (uint32_t i = flight->prefix; i < len; i++) {
        step->seq_row[i] = step->want_row[i] = step->want_seq[i] = i;
        step->seq_rows[i] = 1;
        step->token[i] = -1;
        flight->wanted[i] = 1;
    }
    flight->prefix = len;
}

/* What stands between a sequence and a plain decode row; false when it gets none in this step. */
static bool clear_way(struct engine *engine, struct sequence *sequence, uint32_t *starved)
{
    if (sequence->computed == sequence->limit)
        return false; /* its last token is being sampled */
    if (sequence->computed == sequence->room && !find_room(engine, sequence, starved))
        return false;
    sequence->plain = sequence->room < sequence->limit ? sequence->room : sequence->limit;
    return true;
}

/* All that decode; drops those that no longer run from the list and collects those that read. */
static uint32_t plan_decodes(struct engine *engine, struct flight *flight, uint32_t *starved)
{
    const uint32_t bit = 1u << (flight - engine->flights), run_len = engine->run_len;
    uint32_t *seq_slot = flight->step->seq_slot, *seq_ctx = flight->step->seq_ctx;
    struct sequence **run = engine->run, **planned = flight->sequence;
    uint32_t kept = 0, prefills = 0, index = 0;
    uint64_t kv = 0;

    write_prefix(flight, run_len);
    for (uint32_t i = 0; i < run_len; i++) {
        struct sequence *sequence = run[i];

        if (sequence->computed >= sequence->plain) {
            if (sequence->state != SEQUENCE_RUNNING)
                continue;
            if (sequence->computed < sequence->admitted)
                engine->prefills[prefills++] = sequence;
            run[kept++] = sequence;
            if (sequence->computed < sequence->admitted || !clear_way(engine, sequence, starved))
                continue;
        } else {
            run[kept++] = sequence;
        }
        planned[index] = sequence;
        seq_slot[index] = sequence->slot;
        seq_ctx[index] = sequence->computed++;
        kv += sequence->computed;
        sequence->flights |= bit;
        sequence->index = index++;
    }
    engine->run_len = kept;
    flight->decodes = index;
    flight->kv = kv;
    flight->step->decodes = index;
    flight->step->sequences = flight->step->rows = flight->step->wanted = index;
    return prefills;
}

/* An entry for `rows` rows of known ids. */
static void add_chunk(struct engine *engine, struct flight *flight, struct sequence *sequence,
                      uint32_t rows)
{
    struct step *step = flight->step;
    const uint32_t index = step->sequences++, ctx = sequence->computed;
    const bool wanted = ctx + rows == sequence->admitted;

    memcpy(step->token + step->rows, sequence->token + ctx, rows * sizeof(*step->token));
    flight->sequence[index] = sequence;
    flight->wanted[index] = wanted;
    flight->kv += cost_kv(rows, ctx);
    step->seq_slot[index] = sequence->slot;
    step->seq_row[index] = step->rows;
    step->seq_rows[index] = rows;
    step->seq_ctx[index] = ctx;
    step->rows += rows;
    if (wanted) {
        step->want_row[step->wanted] = step->rows - 1;
        step->want_seq[step->wanted++] = index;
    }
    sequence->computed += rows;
    sequence->index = index;
    sequence->flights |= 1u << (flight - engine->flights);
    flight->prefix = flight->decodes;
}

/* As much of its ids as budget and blocks allow; rows read before and new ones never together. */
static void plan_chunk(struct engine *engine, struct flight *flight, struct sequence *sequence,
                       uint32_t *starved)
{
    struct step *step = flight->step;
    const uint32_t at = sequence->computed, budget = engine->rows_max - step->rows;
    uint32_t rows = sequence->admitted - at;

    if (rows > budget)
        rows = budget;
    if (at < sequence->paid && rows > sequence->paid - at)
        rows = sequence->paid - at;
    grow_table(engine, sequence, at + rows);
    if (sequence->room == at && !find_room(engine, sequence, starved))
        return;
    if (rows > sequence->room - at)
        rows = sequence->room - at;
    add_chunk(engine, flight, sequence, rows);
}

/*
 * Room for what it has to read and a reserve for each that runs already, so that few are evicted.
 * One that was evicted just now is not back in the same plan: less is free than it gave up.
 */
static bool may_admit(const struct engine *engine, const struct sequence *sequence)
{
    const uint32_t rows = sequence->len < sequence->limit ? sequence->len + 1 : sequence->limit;

    return engine->free_slots_len > 0 && engine->evicting == 0 &&
           engine->kv.free_len >=
               (rows + BLOCK - 1) / BLOCK + engine->running * engine->reserve_blocks;
}

static void admit(struct engine *engine, struct sequence *sequence)
{
    const uint32_t slot = engine->free_slots[--engine->free_slots_len];

    engine->slots->sampling[slot] = sequence->sampling;
    engine->slots->pool[slot] = (sequence->flags & SEQUENCE_EMBED) != 0;
    engine->slots->logprobs[slot] = (sequence->flags & SEQUENCE_LOGPROBS) != 0;
    sequence->slot = slot;
    sequence->state = SEQUENCE_RUNNING;
    sequence->admitted = sequence->len;
    engine->run[engine->run_len++] = sequence;
    engine->running++;
}

bool plan_step(struct engine *engine)
{
    const unsigned slot = (engine->oldest + engine->in_flight) % DEVICE_STEPS;
    struct flight *flight = &engine->flights[slot];
    uint32_t starved = 0, prefills;
    struct step *step;

    assert(engine->in_flight < DEVICE_STEPS);
    if (engine->run_len == 0 && engine->waiting.len == 0)
        return false;
    step = flight->step = engine->ops->begin(engine->device, slot);
    prefills = plan_decodes(engine, flight, &starved);
    for (uint32_t i = 0; i < prefills && step->rows < engine->rows_max; i++)
        if (engine->prefills[i]->state == SEQUENCE_RUNNING)
            plan_chunk(engine, flight, engine->prefills[i], &starved);
    while (engine->waiting.len > 0 && step->rows < engine->rows_max &&
           may_admit(engine, engine->waiting.first)) {
        struct sequence *sequence = sequence_list_pop(&engine->waiting);

        admit(engine, sequence);
        plan_chunk(engine, flight, sequence, &starved);
    }
    if (step->rows == 0)
        return false;
    engine->ops->forward(engine->device, slot);
    engine->ops->sample(engine->device, slot);
    engine->in_flight++;
    return true;
}
