/* forecast.c: one pass over those that run, then one over a few bins for each that wants to. */
#include "kernels/core/forecast.h"

#include "kernels/core/core.h"

enum { BLOCK = DEVICE_BLOCK_TOKENS };

uint32_t forecast_rows(const struct engine *engine, const struct sequence *sequence)
{
    const struct group *group = sequence->group;
    const bool known = group != NULL && group->lengths.count >= LENGTHS_ENOUGH;
    const struct lengths *lengths = known ? &group->lengths : &engine->lengths;
    const uint32_t most = sequence->limit + 1 - sequence->prompt_len;
    uint32_t tokens = lengths->count >= LENGTHS_ENOUGH ? lengths->p90 : most / 2;

    if (sequence->flags & SEQUENCE_EMBED)
        return sequence->limit;
    if (tokens < sequence_tokens_len(sequence) + BLOCK) /* longer than was thought: a little more */
        tokens = sequence_tokens_len(sequence) + BLOCK;
    return sequence->limit - most + (tokens < most ? tokens : most);
}

void forecast_add(struct forecast *forecast, uint32_t now, uint32_t later)
{
    uint32_t bin = later / forecast->width;

    if (!forecast->made)
        return;
    bin = bin < FORECAST_BINS ? bin : FORECAST_BINS - 1;
    forecast->count[bin]++;
    forecast->own[bin] += now;
}

static void make(const struct engine *engine, struct forecast *forecast)
{
    const struct kv *kv = &engine->kv;
    const struct prefix_list *kept = engine->prefix.kept;
    uint64_t own = 0;
    uint64_t used =
        kv->blocks - kv->free_len - kv->coming - kept[PREFIX_IDLE].len - kept[PREFIX_WANTED].len;

    *forecast =
        (struct forecast){.made = true, .width = engine->slots->blocks_stride / FORECAST_BINS + 1};
    for (uint32_t i = 0; i < engine->run_len; i++) {
        const struct sequence *sequence = engine->run[i];
        const uint32_t rows = forecast_rows(engine, sequence), room = sequence->room;

        if (sequence->state != SEQUENCE_RUNNING)
            continue;
        own += room / BLOCK - sequence->path_at;
        forecast_add(forecast, room / BLOCK - sequence->path_at,
                     rows > room ? (rows - room + BLOCK - 1) / BLOCK : 0);
    }
    forecast->rest = (used > own ? used - own : 0) + kept[PREFIX_WANTED].len;
}

bool forecast_fits(const struct engine *engine, struct forecast *forecast, uint32_t now,
                   uint32_t later)
{
    uint64_t count = 0, own = 0;
    uint32_t bin;

    if (!forecast->made)
        make(engine, forecast);
    bin = later / forecast->width;
    bin = bin < FORECAST_BINS ? bin : FORECAST_BINS - 1;
    for (uint32_t i = FORECAST_BINS; i > 0; i--) {
        const uint32_t at = i - 1;

        count += forecast->count[at] + (at == bin);
        own += forecast->own[at] + (at == bin ? now : 0);
        if (forecast->rest + own + count * at * forecast->width > engine->kv.blocks)
            return false;
    }
    return true;
}
