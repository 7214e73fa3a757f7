/* engine.c: the calls of engine.h, but for opening. */
#include "kernels/core/core.h"

#include <assert.h>
#include <string.h>

const struct engine_model *engine_model(const struct engine *engine)
{
    return &engine->about;
}

const struct tokenizer *engine_tokenizer(const struct engine *engine)
{
    return engine->tokenizer;
}

uint64_t engine_clock_ns(const struct engine *engine)
{
    return engine->ops->clock_ns(engine->device);
}

static bool tokens_known(const struct engine *engine, const uint32_t *token, uint32_t len)
{
    uint32_t largest = 0;

    for (uint32_t i = 0; i < len; i++)
        largest = token[i] > largest ? token[i] : largest;
    return largest < engine->about.vocab;
}

static bool stops_fit(const struct engine_request *request)
{
    if (request->stop_len > STOPS_MAX)
        return false;
    for (uint32_t i = 0; i < request->stop_len; i++)
        if (request->stop[i].len == 0 || request->stop[i].len > STOP_BYTES_MAX)
            return false;
    return true;
}

/* Whether the request can ever run here. */
static bool request_fits(const struct engine *engine, const struct engine_request *request)
{
    const uint32_t tokens_max = request->kind == ENGINE_EMBED ? 0 : request->tokens_max;

    if (request->prompt_len == 0 || request->prompt_len > engine->about.context_max ||
        tokens_max > engine->about.context_max - request->prompt_len)
        return false;
    if (request->kind == ENGINE_GENERATE && tokens_max == 0)
        return false;
    if (request->resumed_len > tokens_max || !stops_fit(request))
        return false;
    if (request->logprobs && request->resumed_len > 0 && request->resumed_logprobs == NULL)
        return false;
    return tokens_known(engine, request->prompt, request->prompt_len) &&
           tokens_known(engine, request->resumed, request->resumed_len);
}

static struct sequence *copy_request(struct engine *engine, const struct engine_request *request)
{
    struct sequence *sequence = sequence_new(&engine->pool);

    sequence_reserve(sequence, request->prompt_len + request->resumed_len + 1);
    memcpy(sequence->token, request->prompt, request->prompt_len * sizeof(*request->prompt));
    sequence->len = sequence->prompt_len = request->prompt_len;
    sequence->limit = request->kind == ENGINE_EMBED ? request->prompt_len
                                                    : request->prompt_len + request->tokens_max - 1;
    sequence->tag = request->tag;
    sequence->order = engine->submitted++;
    if (request->group != 0) {
        sequence->group = groups_get(&engine->groups, request->group, sequence->order);
        sequence->group->sequences++;
        if (request->kind == ENGINE_GENERATE) /* an embedding wants the last state of each row */
            prefix_join(&engine->prefix, sequence);
    }
    sequence->sampling = request->sampling;
    if (request->kind == ENGINE_EMBED)
        sequence->flags |= SEQUENCE_EMBED;
    if (request->logprobs && request->kind == ENGINE_GENERATE)
        sequence->flags |= SEQUENCE_LOGPROBS;
    if (request->ignore_eos)
        sequence->flags |= SEQUENCE_IGNORE_EOS;
    if (request->stop_len > 0 && request->kind == ENGINE_GENERATE) {
        sequence->flags |= SEQUENCE_STOPS | (request->include_stop ? SEQUENCE_KEEP_STOP : 0);
        sequence->stops = stops_new(request->stop, request->stop_len);
    }
    return sequence;
}

/* What an earlier attempt generated, as if it came now; true when that was already the end. */
static bool replay(const struct engine *engine, struct sequence *sequence,
                   const struct engine_request *request)
{
    for (uint32_t i = 0; i < request->resumed_len; i++) {
        const uint32_t before = sequence->len;
        const bool ended = accept_token(engine, sequence, request->resumed[i]);

        if (sequence->flags & SEQUENCE_LOGPROBS && sequence->len > before)
            sequence_keep_logprob(sequence, request->resumed_logprobs[i]);
        if (ended)
            return true;
    }
    if (request->resumed_len > 0)
        sequence->paid = sequence->len - 1; /* the row of the last one was not read yet */
    sequence->walked_len = sequence->len;
    return false;
}

/* What another engine began has places of its own to wait in: fresh ones do not keep it out. */
static bool waiting_is_full(const struct engine *engine, const struct engine_request *request)
{
    const uint32_t more = request->resumed_len > 0 ? engine->sequences_max : 0;

    return waiting_len(&engine->waiting) >= engine->waiting_max + more;
}

enum err engine_submit(struct engine *engine, const struct engine_request *request)
{
    struct sequence *sequence;
    bool ended;

    if (waiting_is_full(engine, request))
        return ERR_AGAIN;
    if (!request_fits(engine, request))
        return ERR_LIMIT;
    assert(tags_find(&engine->tags, request->tag) == NULL);
    sequence = copy_request(engine, request);
    tags_add(&engine->tags, sequence->tag, sequence);
    sequence->state = SEQUENCE_WAITING;
    ended = replay(engine, sequence, request);
    waiting_add(&engine->waiting, sequence);
    if (ended)
        finish_sequence(engine, sequence, sequence->finish);
    return ERR_OK;
}

static void free_delivered(struct engine *engine)
{
    struct sequence *sequence;

    while ((sequence = sequence_list_pop(&engine->delivered)) != NULL)
        sequence_free(&engine->pool, sequence);
}

enum err engine_step(struct engine *engine, struct engine_step_info *info)
{
    enum err rc = ERR_OK;
    bool planned;

    *info = (struct engine_step_info){0};
    if (engine->broken)
        return ERR_DEVICE;
    planned = plan_step(engine);
    free_delivered(engine); /* after the plan, which has taken the ended ones out of the run list */
    if (engine->in_flight == DEVICE_STEPS || (engine->in_flight > 0 && !planned))
        rc = collect_step(engine, info);
    else
        info->idle = engine->in_flight == 0;
    info->running = engine->running;
    info->waiting = waiting_len(&engine->waiting);
    info->steps = engine->steps;
    info->kv_blocks = engine->kv.blocks;
    info->kv_blocks_free = engine->kv.free_len;
    return rc;
}

enum err engine_flush(struct engine *engine)
{
    struct engine_step_info info;
    enum err rc = engine->broken ? ERR_DEVICE : ERR_OK;

    while (rc == ERR_OK && engine->in_flight > 0)
        rc = collect_step(engine, &info);
    return rc;
}

void engine_idle(struct engine *engine)
{
    const uint64_t now_ns = engine_clock_ns(engine);

    if (engine->in_flight > 0 || engine->running > 0 || waiting_len(&engine->waiting) > 0)
        return;
    *(engine->broken ? &engine->books.overhead_ns : &engine->books.idle_ns) +=
        now_ns - engine->cut_ns;
    engine->cut_ns = now_ns;
}

bool engine_poll(struct engine *engine, struct engine_event *ret)
{
    struct sequence *sequence = sequence_list_pop(&engine->finished);

    if (sequence == NULL)
        return false;
    sequence_list_add(&engine->delivered, sequence);
    engine->books.live_ns -= sequence->cost_ns;
    engine->books.delivered_ns += sequence->cost_ns;
    *ret = (struct engine_event){
        .tag = sequence->tag,
        .finish = sequence->finish,
        .tokens = sequence_tokens(sequence),
        .tokens_len = sequence_tokens_len(sequence),
        .logprobs = sequence_logprobs(sequence),
        .text = buffer_slice(&sequence->text),
        .cost = {.ns = sequence->cost_ns,
                 .recompute_ns = sequence->recompute_ns,
                 .prompt_tokens = sequence->prompt_len,
                 .cached_tokens = sequence->cached,
                 .output_tokens = sequence_tokens_len(sequence)},
    };
    if (sequence->flags & SEQUENCE_EMBED && sequence->finish == ENGINE_STOP)
        ret->embedding = sequence->embedding;
    return true;
}

void engine_cancel(struct engine *engine, uint64_t tag)
{
    struct sequence *sequence = tags_find(&engine->tags, tag);

    if (sequence == NULL)
        return;
    sequence->flags |= SEQUENCE_CANCELLED;
    if (sequence->flights == 0) {
        finish_sequence(engine, sequence, ENGINE_CANCELLED);
    } else if (sequence->state == SEQUENCE_RUNNING) {
        stop_running(engine, sequence);
        sequence->state = SEQUENCE_LEAVING;
        leave_slot(engine, sequence->slot);
    }
}

bool engine_checkpoint(struct engine *engine, uint32_t *cursor, struct engine_checkpoint *ret)
{
    while (*cursor < engine->pool.len) {
        struct sequence *sequence = sequence_at(&engine->pool, (*cursor)++);

        if (sequence->state == SEQUENCE_FREE || sequence->state == SEQUENCE_FINISHED)
            continue;
        *ret = (struct engine_checkpoint){
            .tag = sequence->tag,
            .tokens = sequence_tokens(sequence),
            .tokens_len = sequence_tokens_len(sequence),
            .logprobs = sequence_logprobs(sequence),
            .cost_ns = sequence->cost_ns,
            .recompute_ns = sequence->recompute_ns,
            .moved = sequence->len > sequence->walked_len,
        };
        sequence->walked_len = sequence->len;
        return true;
    }
    return false;
}

bool engine_look(const struct engine *engine, uint32_t *cursor, struct engine_look *ret)
{
    while (*cursor < engine->pool.len) {
        const struct sequence *sequence = sequence_at(&engine->pool, (*cursor)++);

        if (sequence->state == SEQUENCE_FREE || sequence->state == SEQUENCE_FINISHED)
            continue;
        *ret = (struct engine_look){sequence->tag, sequence_tokens_len(sequence), sequence->cost_ns,
                                    sequence->recompute_ns};
        return true;
    }
    return false;
}

bool engine_group_books(struct engine *engine, struct engine_group_books *ret)
{
    return groups_tell(&engine->groups, ret);
}

void engine_books(const struct engine *engine, struct engine_books *ret)
{
    *ret = engine->books;
    ret->held_ns = engine->cut_ns - engine->began_ns;
}
