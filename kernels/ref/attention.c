/*
 * attention.c: each row's queries against the keys and values of positions 0 to its own.
 *
 * For one query q and the positions t of its context:
 *     s_t = (sum over d of q_d K_td) / sqrt(D)      m = max s_t      e_t = e^(s_t - m)
 *     l = sum of e_t, in four lanes t mod 4, then (l0 + l1) + (l2 + l3)
 *     p_t = e_t (1 / l)      o_d = sum over t of p_t V_td
 * each sum in ascending order. So a row gets the same bits whether it was read alone or in a chunk.
 *
 * Both products take their operands in the type of the KV cache and sum in float, as matrix units
 * do: q, K, V and p are rounded to half where that is the type, e and l are not.
 */
#include "kernels/ref/ref.h"

#include "kernels/maths.h"

#include <math.h>
#include <string.h>

/* score[t] for the first `len` positions of a block; keys are [D][BLOCK]. */
static void score_block(const float *restrict q, const float *restrict k, uint32_t dims,
                        uint32_t len, float scale, float *restrict score)
{
    four sum[BLOCK / 4] = {{0}};

    if (len < BLOCK) { /* what lies past the context may be anything: it is not read */
        memset(score, 0, len * sizeof(*score));
        for (uint32_t d = 0; d < dims; d++, k += BLOCK)
            for (uint32_t t = 0; t < len; t++)
                score[t] += q[d] * k[t];
        for (uint32_t t = 0; t < len; t++)
            score[t] *= scale;
        return;
    }
    for (uint32_t d = 0; d < dims; d++, k += BLOCK)
        for (int i = 0; i < BLOCK / 4; i++)
            sum[i] += q[d] * *(const four *)(k + 4 * i);
    for (int i = 0; i < BLOCK / 4; i++)
        *(four *)(score + 4 * i) = sum[i] * scale;
}

/* The sum of e in four lanes: lane i takes positions i, i + 4, i + 8 … */
static float add_lanes(const float *e, uint32_t len)
{
    four lane = {0};
    uint32_t t = 0;

    for (; t + 4 <= len; t += 4)
        lane += *(const four *)(e + t);
    for (int i = 0; t < len; i++, t++)
        lane[i] += e[t];
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}

static float highest(const float *score, uint32_t len)
{
    float lane[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};

    for (uint32_t t = 0; t + 4 <= len; t += 4)
        for (uint32_t i = 0; i < 4; i++)
            lane[i] = score[t + i] > lane[i] ? score[t + i] : lane[i];
    for (uint32_t t = len / 4 * 4; t < len; t++)
        lane[0] = score[t] > lane[0] ? score[t] : lane[0];
    for (uint32_t i = 1; i < 4; i++)
        lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
    return lane[0];
}

/* Turns scores into weights that sum to 1. */
static void weigh(float *restrict score, uint32_t len, bool half)
{
    float most = highest(score, len);
    float scale;

    for (uint32_t t = 0; t < len; t++)
        score[t] = maths_exp32(score[t] - most);
    scale = 1.0f / add_lanes(score, len);
    for (uint32_t t = 0; t < len; t++)
        score[t] *= scale;
    if (!half)
        return;
    for (uint32_t t = 0; t < len; t++)
        score[t] = maths_half(score[t]);
}

/* out[d] += sum over t of weight[t] V[t][d], for eight d at a time, then those that are left. */
static void add_values(const float *restrict weight, const float *restrict v, uint32_t dims,
                       uint32_t len, float *restrict out)
{
    uint32_t d = 0;

    for (; d + 8 <= dims; d += 8) {
        four a = *(const four *)(out + d);
        four b = *(const four *)(out + d + 4);

        for (uint32_t t = 0; t < len; t++) {
            a += weight[t] * *(const four *)(v + (size_t)t * dims + d);
            b += weight[t] * *(const four *)(v + (size_t)t * dims + d + 4);
        }
        *(four *)(out + d) = a;
        *(four *)(out + d + 4) = b;
    }
    for (; d < dims; d++)
        for (uint32_t t = 0; t < len; t++)
            out[d] += weight[t] * v[(size_t)t * dims + d];
}

/* One query head of one row; `score` has room for its context. */
static void attend(const struct ref *ref, uint32_t layer, uint32_t index, uint32_t head,
                   float *score)
{
    const struct backend *backend = &ref->host;
    const struct model_hyper *h = &backend->hyper;
    const struct row *row = &backend->row[index];
    const float *q = act_row(backend, ACT_QKV, index) + (size_t)head * h->head_dim;
    float *out = act_row(backend, ACT_HEADS, index) + (size_t)head * h->head_dim;
    uint32_t group = head / (h->heads / h->kv_heads);
    uint32_t context = row->position + 1;
    float scale = 1.0f / sqrtf((float)h->head_dim);

    for (uint32_t t = 0; t < context; t += BLOCK)
        score_block(q, ref->k + kv_at(ref, layer, row->slot, t, group), h->head_dim,
                    context - t < BLOCK ? context - t : BLOCK, scale, score + t);
    weigh(score, context, ref->half);
    memset(out, 0, h->head_dim * sizeof(float));
    for (uint32_t t = 0; t < context; t += BLOCK)
        add_values(score + t, ref->v + kv_at(ref, layer, row->slot, t, group), h->head_dim,
                   context - t < BLOCK ? context - t : BLOCK, out);
}

struct job {
    const struct ref *ref;
    uint32_t layer;
};

/* An item is one row. */
static void attend_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;

    for (uint32_t row = begin; row < end; row++)
        for (uint32_t head = 0; head < job->ref->host.hyper.heads; head++)
            attend(job->ref, job->layer, row, head, job->ref->score[thread]);
}

void ref_attn(struct backend *backend, const struct step *step, uint32_t layer)
{
    const struct model_hyper *h = &backend->hyper;
    struct job job = {ref_of(backend), layer};
    uint64_t positions = 0;

    for (uint32_t i = 0; i < step->rows; i++)
        positions += backend->row[i].position + 1;
    team_run(backend->team, step->rows, positions / step->rows * h->heads * (h->head_dim + 4),
             attend_rows, &job);
}
