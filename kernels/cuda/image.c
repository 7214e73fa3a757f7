/* image.c: from the step's arrays, sequence by sequence, to arrays by row. */
#include "kernels/cuda/image.h"

#include <assert.h>
#include <string.h>

enum { BLOCK = DEVICE_BLOCK_TOKENS, ALIGN = 256 };

static size_t next_place(size_t *at, size_t bytes)
{
    const size_t place = *at;

    *at = (place + bytes + ALIGN - 1) / ALIGN * ALIGN;
    return place;
}

struct image_places image_places(const struct device_limits *limits)
{
    const size_t rows = limits->rows_max, sequences = limits->sequences_max;
    struct image_places places;
    size_t at = 0;

    next_place(&at, sizeof(struct image_head));
    places.token = next_place(&at, rows * sizeof(int32_t));
    places.slot = next_place(&at, rows * sizeof(uint32_t));
    places.position = next_place(&at, rows * sizeof(uint32_t));
    places.place = next_place(&at, rows * sizeof(uint32_t));
    places.pool = next_place(&at, sequences * sizeof(struct pool_item));
    places.attend = at;
    return places;
}

struct sampling_places sampling_places(const struct device_limits *limits)
{
    const size_t sequences = limits->sequences_max;
    struct sampling_places places;
    size_t at = 0;

    next_place(&at, sizeof(struct sampling_head));
    places.row = next_place(&at, sequences * sizeof(uint32_t));
    places.sample = next_place(&at, sequences * sizeof(struct sample_row));
    places.embedding = next_place(&at, sequences * sizeof(struct embedding_item));
    places.end = at;
    return places;
}

size_t image_bytes(const struct device_limits *limits)
{
    return image_places(limits).attend;
}

size_t sampling_bytes(const struct device_limits *limits)
{
    return sampling_places(limits).end;
}

static void *at(void *image, size_t place)
{
    return (uint8_t *)image + place;
}

void image_write(const struct image_places *places, const struct step *step,
                 const struct slots *slots, void *image)
{
    struct image_head *head = image;
    uint32_t *slot = at(image, places->slot), *position = at(image, places->position);
    uint32_t *place = at(image, places->place);
    struct pool_item *pool = at(image, places->pool);

    *head = (struct image_head){.rows = step->rows};
    memcpy(at(image, places->token), step->token, step->rows * sizeof(*step->token));
    for (uint32_t s = 0; s < step->sequences; s++) {
        const uint32_t first = step->seq_row[s], ctx = step->seq_ctx[s], its = step->seq_slot[s];
        const uint32_t *blocks = slots->blocks + (size_t)its * slots->blocks_stride;

        for (uint32_t i = 0; i < step->seq_rows[s]; i++) {
            slot[first + i] = its;
            position[first + i] = ctx + i;
            place[first + i] = blocks[(ctx + i) / BLOCK] * BLOCK + (ctx + i) % BLOCK;
        }
        if (slots->pool[its])
            pool[head->pools++] = (struct pool_item){first, step->seq_rows[s], its, ctx == 0};
    }
}

static struct sample_row sample_row_of(const struct step *step, const struct slots *slots,
                                       uint32_t want)
{
    const uint32_t sequence = step->want_seq[want], slot = step->seq_slot[sequence];
    const struct engine_sampling *sampling = &slots->sampling[slot];

    return (struct sample_row){
        .seed = sampling->seed,
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .min_p = sampling->min_p,
        .top_k = sampling->top_k,
        .position = step->seq_ctx[sequence] + step->want_row[want] - step->seq_row[sequence] + 1,
        .choice = sampling->choice,
        .slot = slot,
        .want = want,
        .flags = slots->logprobs[slot] ? SAMPLE_LOGPROB : 0,
        .mask = SAMPLE_NO_MASK,
        .repetition = 1.0f,
    };
}

size_t sampling_write(const struct sampling_places *places, const struct step *step,
                      const struct slots *slots, uint32_t picked_max, void *sampling,
                      uint32_t *ret_picked)
{
    struct sampling_head *head = sampling;
    uint32_t *row = at(sampling, places->row), picked = 0;
    struct sample_row *sample = at(sampling, places->sample);
    struct embedding_item *embedding = at(sampling, places->embedding);

    *head = (struct sampling_head){0};
    for (uint32_t want = 0; want < step->wanted; want++) {
        const uint32_t slot = step->seq_slot[step->want_seq[want]];

        if (slots->pool[slot]) {
            embedding[head->embeddings++] = (struct embedding_item){slot, want};
            continue;
        }
        assert(picked / picked_max < SAMPLING_PASSES_MAX);
        head->picked[picked / picked_max]++;
        row[picked] = step->want_row[want];
        sample[picked++] = sample_row_of(step, slots, want);
    }
    *ret_picked = picked;
    return head->embeddings > 0 ? places->end : places->sample + picked * sizeof(struct sample_row);
}
