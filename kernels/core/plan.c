/*
 * plan.c: what the next step works on. First a row for every sequence that decodes, then, within
 * the token budget, chunks of what is still to be read, oldest first, then new sequences.
 *
 * A sequence whose last row was planned leaves the batch at once, so another has its place in the
 * next step, though its own slot is free only when that row is in: there are two slots for each
 * place in the batch.
 */
#include "kernels/core/core.h"

#include <assert.h>
#include <string.h>

#include "kernels/core/forecast.h"

enum { BLOCK = DEVICE_BLOCK_TOKENS };

/* The step that is being planned. */
struct draft {
    struct engine *engine;
    struct flight *flight;
    struct step *step;
    uint64_t evictions; /* up to here */
    uint32_t starved;   /* sequences that wait for blocks which are on their way */
    struct forecast forecast;
};

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
    if (sequence->computed == sequence->room && !find_room(engine, sequence, starved))
        return false;
    sequence->plain = sequence->room < sequence->limit ? sequence->room : sequence->limit;
    return true;
}

/* Its last token is being sampled, or its embedding made: out of the batch, not out of its slot. */
static void end_rows(struct engine *engine, struct sequence *sequence)
{
    stop_running(engine, sequence);
    sequence->state = SEQUENCE_LEAVING;
    leave_slot(engine, sequence->slot);
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
            if (sequence->computed == sequence->limit) {
                end_rows(engine, sequence);
                continue;
            }
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
    flight->chunk_kv = 0;
    flight->step->decodes = index;
    flight->step->sequences = flight->step->rows = flight->step->wanted = index;
    return prefills;
}

/* An entry for `rows` rows of known ids; `common`: they are the group's. */
static void add_chunk(struct engine *engine, struct flight *flight, struct sequence *sequence,
                      uint32_t rows, bool common)
{
    struct step *step = flight->step;
    const uint32_t index = step->sequences++, ctx = sequence->computed;
    const bool wanted = ctx + rows == sequence->admitted;

    memcpy(step->token + step->rows, sequence->token + ctx, rows * sizeof(*step->token));
    flight->sequence[index] = sequence;
    flight->wanted[index] = wanted;
    flight->common[index] = common;
    flight->kv += cost_kv(rows, ctx);
    flight->chunk_kv += cost_kv(rows, ctx);
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

/* Moves on over blocks of its beginning that are there. False: wait, another is just filling one. */
static bool pass_known(struct engine *engine, struct sequence *sequence)
{
    struct prefix *prefix = &engine->prefix;
    uint32_t *len = &engine->slot_blocks[sequence->slot], taken;

    if (sequence->computed % BLOCK > 0)
        return true;
    taken = prefix_take(prefix, sequence, table_of(engine, sequence->slot) + *len);
    *len += taken;
    sequence->room += taken * BLOCK;
    sequence->computed += taken * BLOCK;
    if (!sequence->again)
        sequence->cached += taken * BLOCK;
    return !prefix_must_wait(prefix, sequence);
}

/* As much of its ids as budget and blocks allow; rows of different accounts never together. */
static void plan_chunk(struct draft *draft, struct sequence *sequence)
{
    struct engine *engine = draft->engine;
    const uint32_t budget = engine->rows_max - draft->step->rows;
    uint32_t at, rows, common = 0;

    if (sequence->path_at < sequence->path_len) {
        if (!pass_known(engine, sequence))
            return;
        common = prefix_common_rows(&engine->prefix, sequence);
    }
    at = sequence->computed;
    rows = common > 0 ? common : sequence->admitted - at;
    if (common == 0 && at < sequence->paid && rows > sequence->paid - at)
        rows = sequence->paid - at;
    if (rows > budget)
        rows = budget;
    grow_table(engine, sequence, at + rows);
    if (sequence->room == at && !find_room(engine, sequence, &draft->starved))
        return;
    if (rows > sequence->room - at)
        rows = sequence->room - at;
    add_chunk(engine, draft->flight, sequence, rows, common > 0);
    if (sequence->path_at < sequence->path_len)
        prefix_put(&engine->prefix, sequence, table_of(engine, sequence->slot));
}

/*
 * Whether there is memory: for what it has to read now, and, where all that run could want more than
 * there is, for what it and they will probably want. Alone it always has enough.
 */
static bool has_memory(struct draft *draft, const struct sequence *sequence)
{
    const struct engine *engine = draft->engine;
    const struct prefix_list *kept = engine->prefix.kept;
    const uint32_t rows = sequence->len < sequence->limit ? sequence->len + 1 : sequence->limit;
    const uint32_t end_rows = forecast_rows(engine, sequence);
    uint32_t used, known, at_hand = engine->kv.free_len + kept[PREFIX_IDLE].len, now;

    prefix_ready(&engine->prefix, sequence, &used, &known);
    now = (rows + BLOCK - 1) / BLOCK - used;
    if (engine->running == 0)
        return at_hand + kept[PREFIX_WANTED].len >= now;
    if (at_hand + known < now)
        return false;
    if (engine->most_blocks + (sequence->limit + BLOCK - 1) / BLOCK <= engine->kv.blocks ||
        !engine->forecasts)
        return true;
    return forecast_fits(engine, &draft->forecast, now - known,
                         end_rows > rows ? (end_rows - rows + BLOCK - 1) / BLOCK : 0);
}

static void admit(struct engine *engine, struct sequence *sequence)
{
    const uint32_t slot = engine->free_slots[--engine->free_slots_len];

    sequence->again = sequence->ran;
    waiting_admit(&engine->waiting, sequence);
    engine->slots->sampling[slot] = sequence->sampling;
    engine->slots->pool[slot] = (sequence->flags & SEQUENCE_EMBED) != 0;
    engine->slots->logprobs[slot] = (sequence->flags & SEQUENCE_LOGPROBS) != 0;
    sequence->slot = slot;
    sequence->state = SEQUENCE_RUNNING;
    sequence->admitted = sequence->len;
    engine->run[engine->run_len++] = sequence;
    engine->running++;
    engine->most_blocks += (sequence->limit + BLOCK - 1) / BLOCK;
}

/*
 * As many as places, rows and memory allow. None when somebody was evicted for this step, or is on
 * its way out: it goes before the others.
 */
static void plan_admissions(struct draft *draft)
{
    struct engine *engine = draft->engine;

    while (draft->step->rows < engine->rows_max && engine->run_len < engine->sequences_max &&
           engine->free_slots_len > 0 && engine->evicting == 0 &&
           engine->evictions == draft->evictions) {
        struct sequence *sequence =
            waiting_next(&engine->waiting, engine->rows_max - draft->step->rows, engine->rows_max);

        if (sequence == NULL || !has_memory(draft, sequence))
            return;
        admit(engine, sequence);
        plan_chunk(draft, sequence);
    }
}

bool plan_step(struct engine *engine)
{
    const unsigned slot = (engine->oldest + engine->in_flight) % DEVICE_STEPS;
    struct draft draft = {
        .engine = engine, .flight = &engine->flights[slot], .evictions = engine->evictions};
    uint32_t prefills;

    assert(engine->in_flight < DEVICE_STEPS);
    if (engine->run_len == 0 && waiting_len(&engine->waiting) == 0)
        return false;
    draft.step = draft.flight->step = engine->ops->begin(engine->device, slot);
    prefills = plan_decodes(engine, draft.flight, &draft.starved);
    for (uint32_t i = 0; i < prefills && draft.step->rows < engine->rows_max; i++)
        if (engine->prefills[i]->state == SEQUENCE_RUNNING)
            plan_chunk(&draft, engine->prefills[i]);
    plan_admissions(&draft);
    if (draft.step->rows == 0)
        return false;
    engine->ops->forward(engine->device, slot);
    engine->ops->sample(engine->device, slot);
    engine->in_flight++;
    return true;
}
