/*
 * layers.c: one function an operation, each over all rows of the step. E, H, G, D, F, V are the
 * numbers of struct model_hyper.
 */
#include "kernels/ref/ref.h"

#include "kernels/maths.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* What is done to `rows` rows, row by row. */
struct job {
    struct backend *backend;
    const struct command *command;
};

static void for_rows(struct backend *backend, const struct command *command, uint32_t rows,
                     uint64_t row_work,
                     void (*task)(void *arg, uint32_t begin, uint32_t end, uint32_t thread))
{
    struct job job = {backend, command};

    team_run(backend->team, rows, row_work, task, &job);
}

static float *act_row(const struct backend *backend, enum act act, uint32_t row)
{
    return backend->act[act] + (size_t)row * backend->act_width[act];
}

static const struct step *step_of(const struct backend *backend, const struct command *command)
{
    return &backend->steps[command->slot].step;
}

/* Cosine and sine of position * frequency, for each rotated pair. */
static void make_angles(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    struct backend *backend = job->backend;
    uint32_t pairs = backend->hyper.rope_dim / 2;

    (void)thread;
    for (uint32_t row = begin; row < end; row++)
        for (uint32_t i = 0; i < pairs; i++) {
            float *angle = backend->angle + ((size_t)row * pairs + i) * 2;
            double sine, cosine;

            maths_sincos(backend->row[row].position * backend->frequency[i], &sine, &cosine);
            angle[0] = (float)cosine;
            angle[1] = (float)sine;
        }
}

/* What follows from the step's arrays: each row's position and slot, and its angles. */
static void start(struct backend *backend, const struct command *command)
{
    const struct step *step = step_of(backend, command);

    for (uint32_t s = 0; s < step->sequences; s++)
        for (uint32_t i = 0; i < step->seq_rows[s]; i++)
            backend->row[step->seq_row[s] + i] =
                (struct row){step->seq_ctx[s] + i, step->seq_slot[s]};
    for_rows(backend, command, step->rows, backend->hyper.rope_dim * 20, make_angles);
}

/* STREAM[m] = row token[m] of the table. */
static void embed(struct backend *backend, const struct command *command)
{
    const struct step *step = step_of(backend, command);
    const struct weight *table = command->weight;

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
    const float *gain = job->command->weight->value;
    uint32_t columns = backend->hyper.embed;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        float *x = act_row(backend, ACT_STREAM, m);
        const float *delta = act_row(backend, ACT_DELTA, m);
        float *out = act_row(backend, ACT_NORMED, m);
        double squares = 0.0;
        float scale;

        for (uint32_t k = 0; k < columns && !job->command->first; k++)
            x[k] += delta[k];
        for (uint32_t k = 0; k < columns; k++)
            squares += (double)x[k] * (double)x[k];
        scale = (float)(1.0 / sqrt(squares / columns + (double)backend->hyper.rms_eps));
        for (uint32_t k = 0; k < columns; k++)
            out[k] = x[k] * scale * gain[k];
    }
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
static void store_kv(const struct backend *backend, uint32_t layer, const struct row *row,
                     const float *k, const float *v)
{
    const struct model_hyper *h = &backend->hyper;
    uint32_t at = row->position % BLOCK;

    for (uint32_t group = 0; group < h->kv_heads; group++) {
        size_t start_at = kv_at(backend, layer, row->slot, row->position, group);

        for (uint32_t d = 0; d < h->head_dim; d++)
            backend->k[start_at + (size_t)d * BLOCK + at] = k[group * h->head_dim + d];
        memcpy(backend->v + start_at + (size_t)at * h->head_dim, v + (size_t)group * h->head_dim,
               h->head_dim * sizeof(float));
    }
}

static void qkv_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = job->backend;
    const struct model_hyper *h = &backend->hyper;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        float *q = act_row(backend, ACT_QKV, m);
        float *k = q + (size_t)h->heads * h->head_dim;
        const float *angle = backend->angle + (size_t)m * h->rope_dim;

        rotate(h, q, h->heads, angle);
        rotate(h, k, h->kv_heads, angle);
        if (backend->half)
            round_to_half(q, backend->act_width[ACT_QKV]);
        store_kv(backend, job->command->layer, &backend->row[m], k,
                 k + (size_t)h->kv_heads * h->head_dim);
    }
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

/* Rows in order of position, so the sum is the same however a prompt is cut into steps. */
static void pool(struct backend *backend, const struct command *command)
{
    const struct step *step = step_of(backend, command);
    uint32_t columns = backend->hyper.embed;

    for (uint32_t m = 0; m < step->rows; m++) {
        const struct row *row = &backend->row[m];
        double *sum = backend->pool + (size_t)row->slot * columns;
        const float *x = act_row(backend, ACT_NORMED, m);

        if (!backend->slots.pool[row->slot])
            continue;
        for (uint32_t k = 0; k < columns; k++)
            sum[k] = (row->position == 0 ? 0.0 : sum[k]) + (double)x[k];
    }
}

static void gather(struct backend *backend, const struct command *command)
{
    const struct step *step = step_of(backend, command);

    for (uint32_t i = 0; i < command->len; i++)
        memcpy(act_row(backend, ACT_PICKED, i),
               act_row(backend, ACT_NORMED, step->want_row[command->pick[i]]),
               backend->hyper.embed * sizeof(float));
}

static void sample_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    struct backend *backend = job->backend;
    const struct step *step = step_of(backend, job->command);
    struct sampled *sampled = &backend->steps[job->command->slot].sampled;

    for (uint32_t i = begin; i < end; i++) {
        const float *logits = act_row(backend, ACT_LOGITS, i);
        uint32_t want = job->command->pick[i];
        const struct row *row = &backend->row[step->want_row[want]];

        sampled->bad[want] = !sample_finite(logits, backend->hyper.vocab);
        sampled->token[want] =
            sampled->bad[want]
                ? 0
                : sample_token(logits, backend->hyper.vocab, &backend->slots.sampling[row->slot],
                               row->position + 1, &backend->scratch[thread]);
        backend->last[row->slot] = sampled->token[want];
    }
}

/* Mean of the pool, scaled to length 1; a mean without a length, or not finite, is bad. */
static void make_embedding(const struct backend *backend, struct ref_step *step, uint32_t want)
{
    uint32_t columns = backend->hyper.embed;
    const struct row *row = &backend->row[step->step.want_row[want]];
    const double *sum = backend->pool + (size_t)row->slot * columns;
    struct sampled *sampled = &step->sampled;
    float *out = sampled->embedding + (size_t)want * columns;
    double squares = 0.0;
    double length;

    for (uint32_t k = 0; k < columns; k++)
        squares += sum[k] * sum[k];
    length = sqrt(squares);
    sampled->token[want] = 0;
    sampled->bad[want] = !(length > 0.0 && length <= 1e300);
    for (uint32_t k = 0; k < columns; k++)
        out[k] = sampled->bad[want] ? 0.0f : (float)(sum[k] / length);
}

static void make_embeddings(struct backend *backend, const struct command *command)
{
    struct ref_step *step = &backend->steps[command->slot];

    for (uint32_t want = 0; want < step->step.wanted; want++)
        if (backend->slots.pool[backend->row[step->step.want_row[want]].slot])
            make_embedding(backend, step, want);
}

void run_command(struct backend *backend, const struct command *command)
{
    const struct model_hyper *h = &backend->hyper;
    uint32_t rows = step_of(backend, command)->rows;

    switch (command->kind) {
    case COMMAND_START:
        start(backend, command);
        break;
    case COMMAND_EMBED:
        embed(backend, command);
        break;
    case COMMAND_NORM:
        for_rows(backend, command, rows, 4 * h->embed, norm_rows);
        break;
    case COMMAND_LINEAR:
        linear(backend, command->weight, backend->act[command->in], backend->act[command->out],
               command->len > 0 ? command->len : rows);
        break;
    case COMMAND_QKV_POST:
        for_rows(backend, command, rows, 4 * backend->act_width[ACT_QKV], qkv_rows);
        break;
    case COMMAND_ATTN:
        attention(backend, command->layer, rows);
        break;
    case COMMAND_GLU:
        for_rows(backend, command, rows, 16 * h->ff, glu_rows);
        break;
    case COMMAND_POOL:
        pool(backend, command);
        break;
    case COMMAND_GATHER:
        gather(backend, command);
        break;
    case COMMAND_SAMPLE:
        for_rows(backend, command, command->len, 8 * h->vocab, sample_rows);
        break;
    case COMMAND_END:
        make_embeddings(backend, command);
        break;
    }
}
