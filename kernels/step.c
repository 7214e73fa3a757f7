/* step.c: an array for each field, as long as the limits allow. */
#include "kernels/step.h"

#include <stdlib.h>

void step_init(struct step *step, const struct device_limits *limits)
{
    const uint32_t sequences = limits->sequences_max;

    *step = (struct step){
        .seq_slot = xcalloc(sequences, sizeof(*step->seq_slot)),
        .seq_row = xcalloc(sequences, sizeof(*step->seq_row)),
        .seq_rows = xcalloc(sequences, sizeof(*step->seq_rows)),
        .seq_ctx = xcalloc(sequences, sizeof(*step->seq_ctx)),
        .token = xcalloc(limits->rows_max, sizeof(*step->token)),
        .want_row = xcalloc(sequences, sizeof(*step->want_row)),
        .want_seq = xcalloc(sequences, sizeof(*step->want_seq)),
    };
}

void step_release(struct step *step)
{
    free(step->seq_slot);
    free(step->seq_row);
    free(step->seq_rows);
    free(step->seq_ctx);
    free(step->token);
    free(step->want_row);
    free(step->want_seq);
    *step = (struct step){0};
}

void sampled_init(struct sampled *sampled, const struct device_limits *limits,
                  uint32_t embedding_len)
{
    const size_t sequences = limits->sequences_max;

    sampled->token = xcalloc(sequences, sizeof(*sampled->token));
    sampled->logprob = xcalloc(sequences, sizeof(*sampled->logprob));
    sampled->bad = xcalloc(sequences, sizeof(*sampled->bad));
    sampled->embedding = xcalloc(sequences * embedding_len, sizeof(*sampled->embedding));
}

void sampled_release(struct sampled *sampled)
{
    free(sampled->token);
    free(sampled->logprob);
    free(sampled->bad);
    free(sampled->embedding);
    *sampled = (struct sampled){0};
}

void slots_init(struct slots *slots, const struct device_limits *limits)
{
    const size_t sequences = limits->sequences_max;

    slots->blocks_stride = (limits->context_max + DEVICE_BLOCK_TOKENS - 1) / DEVICE_BLOCK_TOKENS;
    slots->sampling = xcalloc(sequences, sizeof(*slots->sampling));
    slots->pool = xcalloc(sequences, sizeof(*slots->pool));
    slots->logprobs = xcalloc(sequences, sizeof(*slots->logprobs));
    slots->blocks = xcalloc(sequences * slots->blocks_stride, sizeof(*slots->blocks));
}

void slots_release(struct slots *slots)
{
    free(slots->sampling);
    free(slots->pool);
    free(slots->logprobs);
    free(slots->blocks);
    *slots = (struct slots){0};
}

uint64_t step_bytes(const struct device_limits *limits, uint32_t embedding_len)
{
    const struct step *step = NULL;
    const struct sampled *sampled = NULL;
    const uint64_t sequence = sizeof(*step->seq_slot) + sizeof(*step->seq_row) +
                              sizeof(*step->seq_rows) + sizeof(*step->seq_ctx) +
                              sizeof(*step->want_row) + sizeof(*step->want_seq) +
                              sizeof(*sampled->token) + sizeof(*sampled->logprob) +
                              sizeof(*sampled->bad) + embedding_len * sizeof(*sampled->embedding);

    return limits->rows_max * sizeof(*step->token) + limits->sequences_max * sequence;
}
