/* common.c: what is the same in all arithmetics: angles, pools, picking rows, tokens from logits. */
#include "kernels/host/host.h"

#include "kernels/maths.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct job {
    struct backend *backend;
    const struct command *command;
    const struct step *step;
};

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
static void start(struct job *job)
{
    struct backend *backend = job->backend;
    const struct step *step = job->step;

    for (uint32_t s = 0; s < step->sequences; s++)
        for (uint32_t i = 0; i < step->seq_rows[s]; i++)
            backend->row[step->seq_row[s] + i] =
                (struct row){step->seq_ctx[s] + i, step->seq_slot[s]};
    team_run(backend->team, step->rows, backend->hyper.rope_dim * 40, make_angles, job);
}

/* An item is a sequence: its rows in order, so the sum is the same however a prompt is cut. */
static void pool_sequences(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = job->backend;
    const struct step *step = job->step;
    uint32_t columns = backend->hyper.embed;

    (void)thread;
    for (uint32_t s = begin; s < end; s++) {
        double *sum = backend->pool + (size_t)step->seq_slot[s] * columns;

        if (!backend->slots.pool[step->seq_slot[s]])
            continue;
        if (step->seq_ctx[s] == 0)
            memset(sum, 0, columns * sizeof(*sum));
        for (uint32_t i = 0; i < step->seq_rows[s]; i++) {
            const float *x = act_row(backend, ACT_NORMED, step->seq_row[s] + i);

            for (uint32_t k = 0; k < columns; k++)
                sum[k] += (double)x[k];
        }
    }
}

static void pool(struct job *job)
{
    const struct step *step = job->step;
    uint64_t numbers = (uint64_t)step->rows * job->backend->hyper.embed;

    team_run(job->backend->team, step->sequences, numbers / step->sequences / 2, pool_sequences,
             job);
}

static void gather(struct job *job)
{
    const struct backend *backend = job->backend;
    const struct command *command = job->command;

    for (uint32_t i = 0; i < command->len; i++)
        memcpy(act_row(backend, ACT_PICKED, i),
               act_row(backend, ACT_NORMED, job->step->want_row[command->pick[i]]),
               backend->hyper.embed * sizeof(float));
}

static void sample_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    struct backend *backend = job->backend;
    struct sampled *sampled = &backend->steps[job->command->slot].sampled;
    const struct sample_scratch *scratch = &backend->scratch[thread];
    const struct sample_loops *loops = scratch->loops != NULL ? scratch->loops : &sample_plain;

    for (uint32_t i = begin; i < end; i++) {
        const float *logits = act_row(backend, ACT_LOGITS, i);
        uint32_t want = job->command->pick[i];
        const struct row *row = &backend->row[job->step->want_row[want]];

        sampled->bad[want] = !loops->finite(logits, backend->hyper.vocab);
        sampled->token[want] =
            sampled->bad[want]
                ? 0
                : sample_token(logits, backend->hyper.vocab, &backend->slots.sampling[row->slot],
                               row->position + 1, scratch);
        if (backend->slots.logprobs[row->slot] && !sampled->bad[want])
            sampled->logprob[want] =
                loops->logprob(logits, backend->hyper.vocab, sampled->token[want]);
        backend->last[row->slot] = sampled->token[want];
    }
}

/* Mean of the pool, scaled to length 1; a mean without a length, or not finite, is bad. */
static void make_embedding(const struct job *job, uint32_t want)
{
    const struct backend *backend = job->backend;
    uint32_t columns = backend->hyper.embed;
    const struct row *row = &backend->row[job->step->want_row[want]];
    const double *sum = backend->pool + (size_t)row->slot * columns;
    const struct sampled *sampled = &backend->steps[job->command->slot].sampled;
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

static void make_embeddings(const struct job *job)
{
    const struct backend *backend = job->backend;

    for (uint32_t want = 0; want < job->step->wanted; want++)
        if (backend->slots.pool[backend->row[job->step->want_row[want]].slot])
            make_embedding(job, want);
}

void run_command(struct backend *backend, const struct command *command)
{
    const struct arithmetic *arithmetic = backend->arithmetic;
    const struct step *step = &backend->steps[command->slot].step;
    struct job job = {backend, command, step};

    switch (command->kind) {
    case COMMAND_START:
        start(&job);
        break;
    case COMMAND_EMBED:
        arithmetic->embed(backend, step, command->weight);
        break;
    case COMMAND_NORM:
        arithmetic->norm(backend, step->rows, command->weight, command->first);
        break;
    case COMMAND_LINEAR:
        arithmetic->linear(backend, command->weight, command->in, command->out,
                           command->len > 0 ? command->len : step->rows);
        break;
    case COMMAND_QKV_POST:
        arithmetic->qkv_post(backend, step, command->layer);
        break;
    case COMMAND_ATTN:
        arithmetic->attn(backend, step, command->layer);
        break;
    case COMMAND_GLU:
        arithmetic->glu(backend, step->rows);
        break;
    case COMMAND_POOL:
        pool(&job);
        break;
    case COMMAND_GATHER:
        gather(&job);
        break;
    case COMMAND_SAMPLE:
        team_run(backend->team, command->len, 2 * backend->hyper.vocab, sample_rows, &job);
        break;
    case COMMAND_END:
        make_embeddings(&job);
        break;
    }
}
