/*
 * layers.c: one function an operation, each over all rows of the step. E, H, G, D, F, V are the
 * numbers of struct model_hyper.
 */
#include "kernels/ref/ref.h"

#include "kernels/maths.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* What is done to the rows of a step, row by row. */
struct job {
    struct backend *backend;
    const struct weight *gain;
    uint32_t layer;
    bool first;
};

/* STREAM[m] = row token[m] of the table. */
void ref_embed(struct backend *backend, const struct step *step, const struct weight *table)
{
    for (uint32_t m = 0; m < step->rows; m++) {
        uint32_t id =
            step->token[m] < 0 ? backend->last[backend->row[m].slot] : (uint32_t)step->token[m];
        const float *tile = table->value + (size_t)(id / LANES) * LANES * table->columns;
        float *out = act_row(backend, ACT_STREAM, m);

        assert(id < table->rows);
        for (uint32_t k = 0; k < table->columns; k++)
            out[k] = tile[(size_t)k * LANES + id % LANES];
    }
}

/* x += delta, unless first; normed = gain x / sqrt(mean(x^2) + eps), the mean in double. */
static void norm_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = job->backend;
    const float *gain = job->gain->value;
    uint32_t columns = backend->hyper.embed;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        float *x = act_row(backend, ACT_STREAM, m);
        const float *delta = act_row(backend, ACT_DELTA, m);
        float *out = act_row(backend, ACT_NORMED, m);
        double squares = 0.0;
        float scale;

        for (uint32_t k = 0; k < columns && !job->first; k++)
            x[k] += delta[k];
        for (uint32_t k = 0; k < columns; k++)
            squares += (double)x[k] * (double)x[k];
        scale = (float)(1.0 / sqrt(squares / columns + (double)backend->hyper.rms_eps));
        for (uint32_t k = 0; k < columns; k++)
            out[k] = x[k] * scale * gain[k];
    }
}

void ref_norm(struct backend *backend, uint32_t rows, const struct weight *gain, bool first)
{
    struct job job = {.backend = backend, .gain = gain, .first = first};

    team_run(backend->team, rows, backend->hyper.embed, norm_rows, &job);
}

/* Pairs (2i, 2i + 1) of each of `heads` heads turn by angle i. */
static void rotate(const struct model_hyper *h, float *x, uint32_t heads, const float *angle)
{
    for (uint32_t head = 0; head < heads; head++, x += h->head_dim)
        for (uint32_t i = 0; i < h->rope_dim / 2; i++) {
            float a = x[2 * i];
            float b = x[2 * i + 1];

            x[2 * i] = a * angle[2 * i] - b * angle[2 * i + 1];
            x[2 * i + 1] = a * angle[2 * i + 1] + b * angle[2 * i];
        }
}

/* To the type of the KV cache, held as floats: memory is not what this backend saves. */
static void round_to_half(float *x, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        x[i] = maths_half(x[i]);
}

/* Keys are stored [D][BLOCK], so that a query meets four positions at once; values [BLOCK][D]. */
static void store_kv(const struct ref *ref, uint32_t layer, const struct row *row, const float *k,
                     const float *v)
{
    const struct model_hyper *h = &ref->host.hyper;
    uint32_t at = row->position % BLOCK;

    for (uint32_t group = 0; group < h->kv_heads; group++) {
        size_t start_at = kv_at(ref, layer, row->slot, row->position, group);

        for (uint32_t d = 0; d < h->head_dim; d++)
            ref->k[start_at + (size_t)d * BLOCK + at] = k[group * h->head_dim + d];
        memcpy(ref->v + start_at + (size_t)at * h->head_dim, v + (size_t)group * h->head_dim,
               h->head_dim * sizeof(float));
    }
}

static void qkv_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = job->backend;
    const struct ref *ref = ref_of(job->backend);
    const struct model_hyper *h = &backend->hyper;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        float *q = act_row(backend, ACT_QKV, m);
        float *k = q + (size_t)h->heads * h->head_dim;
        const float *angle = backend->angle + (size_t)m * h->rope_dim;

        rotate(h, q, h->heads, angle);
        rotate(h, k, h->kv_heads, angle);
        if (ref->half)
            round_to_half(q, backend->act_width[ACT_QKV]);
        store_kv(ref, job->layer, &backend->row[m], k, k + (size_t)h->kv_heads * h->head_dim);
    }
}

void ref_qkv_post(struct backend *backend, const struct step *step, uint32_t layer)
{
    struct job job = {.backend = backend, .layer = layer};

    team_run(backend->team, step->rows, backend->act_width[ACT_QKV], qkv_rows, &job);
}

/* ff = silu(gate) up, silu(x) = x / (1 + e^-x). */
static void glu_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    uint32_t columns = job->backend->hyper.ff;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        const float *restrict gate = act_row(job->backend, ACT_PAIR, m);
        const float *restrict up = gate + columns;
        float *restrict out = act_row(job->backend, ACT_FF, m);

        for (uint32_t i = 0; i < columns; i++)
            out[i] = gate[i] / (1.0f + maths_exp32(-gate[i])) * up[i];
    }
}

void ref_glu(struct backend *backend, uint32_t rows)
{
    struct job job = {.backend = backend};

    team_run(backend->team, rows, 4 * backend->hyper.ff, glu_rows, &job);
}
