/*
 * collect.c: what came of a step: its time into the books and onto its sequences, its tokens onto
 * theirs, and the end of those that end.
 */
#include "kernels/core/core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_STRIDE = 32 }; /* tokens for which room is made at once */

void append_text(const struct engine *engine, struct sequence *sequence, uint32_t from, uint32_t to)
{
    const char *bytes = engine->pieces.bytes;
    const uint32_t *at = engine->pieces.at, *token = sequence_tokens(sequence);

    while (from < to) {
        const uint32_t end = to - from > TEXT_STRIDE ? from + TEXT_STRIDE : to;
        char *out = buffer_reserve(&sequence->text,
                                   (size_t)(end - from) * engine->pieces.longest + PIECE_PAD);

        for (; from < end; from++) {
            const uint32_t begin = at[token[from]], size = at[token[from] + 1] - begin;

            if (size <= PIECE_PAD)
                memcpy(out, bytes + begin, PIECE_PAD); /* one move; its surplus is overwritten */
            else
                memcpy(out, bytes + begin, size);
            out += size;
        }
        *out = '\0';
        sequence->text.len = (size_t)(out - sequence->text.data);
    }
}

/* The last token's bytes are new; true when a stop string has ended in them. */
static bool met_stop(const struct engine *engine, struct sequence *sequence)
{
    const uint32_t len = sequence_tokens_len(sequence);
    const size_t seen = sequence->text.len;
    size_t begin, end;

    append_text(engine, sequence, len - 1, len);
    if (!stops_find(sequence->stops, buffer_slice(&sequence->text), seen, &begin, &end))
        return false;
    sequence->text.len = sequence->flags & SEQUENCE_KEEP_STOP ? end : begin;
    return true;
}

bool accept_token(const struct engine *engine, struct sequence *sequence, uint32_t id)
{
    assert(id < engine->about.vocab);
    sequence->finish = ENGINE_STOP;
    sequence->token[sequence->len++] = id;
    if (engine->pieces.ends[id] && !(sequence->flags & SEQUENCE_IGNORE_EOS))
        return true;
    if (sequence->flags & SEQUENCE_STOPS && met_stop(engine, sequence))
        return true;
    sequence->finish = ENGINE_LENGTH;
    return sequence->len > sequence->limit;
}

/* Its slot and blocks: at once, or when the rows that are still in flight are in. */
static void give_up_slot(struct engine *engine, struct sequence *sequence)
{
    if (sequence->flights == 0) {
        release_slot(engine, sequence->slot);
        return;
    }
    assert(__builtin_popcount(sequence->flights) == 1);
    engine->flights[__builtin_ctz(sequence->flights)].sequence[sequence->index] = &engine->dropped;
    if (!engine->slot_leaving[sequence->slot])
        leave_slot(engine, sequence->slot);
}

static void leave_group(struct engine *engine, struct sequence *sequence)
{
    struct group *group = sequence->group;

    prefix_part(&engine->prefix, sequence);
    group->sequences--;
    groups_tidy(&engine->groups, group);
}

/* How long answers are, from those that came to their end. */
static void learn_length(struct engine *engine, const struct sequence *sequence)
{
    const uint32_t tokens = sequence_tokens_len(sequence);

    lengths_add(&engine->lengths, tokens);
    if (sequence->group != NULL)
        lengths_add(&sequence->group->lengths, tokens);
}

void finish_sequence(struct engine *engine, struct sequence *sequence, enum engine_finish finish)
{
    if (sequence->state == SEQUENCE_RUNNING)
        stop_running(engine, sequence);
    if (sequence->state == SEQUENCE_WAITING)
        waiting_drop(&engine->waiting, sequence);
    else
        give_up_slot(engine, sequence);
    engine->evicting -= (sequence->flags & SEQUENCE_EVICTED) != 0;
    if (!(sequence->flags & SEQUENCE_EMBED) && finish <= ENGINE_LENGTH)
        learn_length(engine, sequence);
    if (sequence->group != NULL)
        leave_group(engine, sequence);
    if (!(sequence->flags & (SEQUENCE_STOPS | SEQUENCE_EMBED))) /* an end token is not text */
        append_text(engine, sequence, 0,
                    sequence_tokens_len(sequence) - (finish == ENGINE_STOP ? 1 : 0));
    tags_drop(&engine->tags, sequence->tag);
    sequence->plain = 0;
    sequence->finish = finish;
    sequence->state = SEQUENCE_FINISHED;
    sequence_list_add(&engine->finished, sequence);
}

/* Rows of a sequence that ended in the step before: only now are its slot and blocks free. */
static void drop_rows(struct engine *engine, uint32_t slot, uint64_t share_ns)
{
    engine->books.overhead_ns += share_ns;
    release_slot(engine, slot);
}

static void keep_embedding(const struct engine *engine, struct sequence *sequence,
                           const float *embedding)
{
    const uint32_t len = engine->about.embedding_len;

    if (sequence->embedding == NULL)
        sequence->embedding = xcalloc(len, sizeof(*embedding));
    memcpy(sequence->embedding, embedding, len * sizeof(*embedding));
}

/* Returns the number of tokens kept. */
static uint32_t take_sample(struct engine *engine, struct sequence *sequence,
                            const struct step_result *result, uint32_t want)
{
    const uint32_t before = sequence->len;

    if (result->bad[want]) {
        finish_sequence(engine, sequence, ENGINE_NUMERIC);
    } else if (sequence->flags & SEQUENCE_EMBED) {
        keep_embedding(engine, sequence,
                       result->embedding + (size_t)want * engine->about.embedding_len);
        finish_sequence(engine, sequence, ENGINE_STOP);
    } else {
        const bool ended = accept_token(engine, sequence, result->token[want]);

        if (sequence->flags & SEQUENCE_LOGPROBS && sequence->len > before)
            sequence_keep_logprob(sequence, result->logprob[want]);
        if (ended)
            finish_sequence(engine, sequence, sequence->finish);
    }
    return sequence->len - before;
}

/* Evicted or cancelled, and its last rows are in. */
static void leave(struct engine *engine, struct sequence *sequence)
{
    if (sequence->flags & SEQUENCE_CANCELLED) {
        finish_sequence(engine, sequence, ENGINE_CANCELLED);
        return;
    }
    engine->evicting--;
    requeue_sequence(engine, sequence);
}

/* One entry, whatever it is; `want` is its index among the wanted, if it is one. */
static uint32_t take_entry(struct engine *engine, const struct flight *flight,
                           const struct step_result *result, uint32_t i, uint32_t want)
{
    struct sequence *sequence = flight->sequence[i];
    const uint64_t share_ns = engine->share_ns[i];
    uint32_t tokens = 0;

    if (sequence == &engine->dropped) {
        drop_rows(engine, flight->step->seq_slot[i], share_ns);
        return 0;
    }
    sequence->flights &= ~(1u << (flight - engine->flights));
    if (i >= flight->decodes && flight->common[i]) {
        engine->books.shared_ns += share_ns;
        groups_charge(&engine->groups, sequence->group, share_ns, 0);
    } else if (flight->step->seq_ctx[i] < sequence->paid) {
        sequence->recompute_ns += share_ns;
        engine->books.recompute_ns += share_ns;
        if (sequence->group != NULL)
            groups_charge(&engine->groups, sequence->group, 0, share_ns);
    } else {
        sequence->cost_ns += share_ns;
        engine->books.live_ns += share_ns;
    }
    if (flight->wanted[i])
        tokens = take_sample(engine, sequence, result, want);
    if (sequence->state == SEQUENCE_LEAVING && sequence->flights == 0) /* and did not end */
        leave(engine, sequence);
    return tokens;
}

/* The decodes: nearly all of them only have a token appended. */
static uint32_t take_decodes(struct engine *engine, const struct flight *flight,
                             const struct step_result *result)
{
    const uint32_t landed = ~(1u << (flight - engine->flights)), len = flight->decodes;
    const bool clean = memchr(result->bad, 1, len) == NULL; /* if not, an id may be no id */
    struct sequence *const *sequences = flight->sequence;
    const uint64_t *share_ns = engine->share_ns;
    const uint8_t *ends = engine->pieces.ends;
    const uint32_t *token = result->token;
    uint32_t tokens = 0, others = 0;
    uint64_t live_ns = 0;

    for (uint32_t i = 0; i < len; i++) {
        struct sequence *sequence = sequences[i];
        const uint32_t id = token[i];

        /* a thousand lists of ids do not fit the first cache */
        __builtin_prefetch(sequences[i + FLIGHT_PAD]->token + sequences[i + FLIGHT_PAD]->len, 1);
        if (!clean || sequence->flags | ends[id]) {
            tokens += take_entry(engine, flight, result, i, i);
            others++;
            continue;
        }
        const uint32_t at = sequence->len, limit = sequence->limit;

        sequence->flights &= landed;
        sequence->cost_ns += share_ns[i];
        sequence->len = at + 1;
        sequence->token[at] = id;
        live_ns += share_ns[i];
        if (at == limit)
            finish_sequence(engine, sequence, ENGINE_LENGTH);
    }
    engine->books.live_ns += live_ns;
    return tokens + len - others;
}

static uint32_t take_in(struct engine *engine, const struct flight *flight,
                        const struct step_result *result)
{
    uint32_t tokens = take_decodes(engine, flight, result), want = flight->decodes;

    for (uint32_t i = flight->decodes; i < flight->step->sequences; i++) {
        tokens += take_entry(engine, flight, result, i, want);
        want += flight->wanted[i];
    }
    return tokens;
}

/* Its result will not come: what was sampled in it is not known, and never was. */
static void drop_flight(struct engine *engine, const struct flight *flight)
{
    for (uint32_t i = 0; i < flight->step->sequences; i++) {
        struct sequence *sequence = flight->sequence[i];

        if (sequence == &engine->dropped) {
            release_slot(engine, flight->step->seq_slot[i]);
            continue;
        }
        sequence->flights &= ~(1u << (flight - engine->flights));
        if (sequence->state == SEQUENCE_LEAVING && sequence->flights == 0 &&
            sequence->flags & (SEQUENCE_CANCELLED | SEQUENCE_EVICTED))
            leave(engine, sequence);
    }
}

/* The device failed: nothing is in flight any more. The time went by with it, and nobody has it. */
static void break_off(struct engine *engine)
{
    const uint64_t now_ns = engine_clock_ns(engine);

    engine->broken = true;
    for (; engine->in_flight > 0; engine->in_flight--) {
        drop_flight(engine, &engine->flights[engine->oldest]);
        engine->oldest = (engine->oldest + 1) % DEVICE_STEPS;
    }
    if (now_ns > engine->cut_ns) {
        engine->books.overhead_ns += now_ns - engine->cut_ns;
        engine->cut_ns = now_ns;
    }
}

enum err collect_step(struct engine *engine, struct engine_step_info *info)
{
    const struct flight *flight = &engine->flights[engine->oldest];
    const struct step *step = flight->step;
    const struct cost_work work = {
        .sequences = step->sequences,
        .plain = flight->decodes,
        .rows = step->seq_rows,
        .ctx = step->seq_ctx,
        .wanted = flight->wanted,
        .rows_sum = step->rows,
        .kv_sum = (flight->kv - flight->chunk_kv) * engine->decode_weight +
                  flight->chunk_kv * engine->chunk_weight,
        .wanted_sum = step->wanted,
        .plain_weight = engine->decode_weight,
        .chunk_weight = engine->chunk_weight,
    };
    struct step_result result = {0};
    enum err rc = engine->ops->done(engine->device, engine->oldest, -1, &result);

    if (rc) {
        break_off(engine);
        return rc;
    }
    engine->oldest = (engine->oldest + 1) % DEVICE_STEPS;
    engine->in_flight--;
    engine->steps++;
    assert(result.begin_ns >= engine->cut_ns && result.end_ns >= result.begin_ns);
    engine->books.overhead_ns += result.begin_ns - engine->cut_ns;
    engine->cut_ns = result.end_ns;
    cost_split(result.part_ns, &work, &engine->scratch, engine->share_ns);
    info->sequences = step->sequences;
    info->wanted = step->wanted;
    info->kv = flight->kv;
    info->begin_ns = result.begin_ns;
    info->end_ns = result.end_ns;
    info->fixed_ns = result.part_ns[PART_FIXED];
    info->linear_ns = result.part_ns[PART_LINEAR];
    info->attention_ns = result.part_ns[PART_ATTENTION];
    info->head_ns = result.part_ns[PART_HEAD];
    info->rows = step->rows;
    info->tokens = take_in(engine, flight, &result);
    return ERR_OK;
}
