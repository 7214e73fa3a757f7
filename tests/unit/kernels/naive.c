/* naive.c: written from the formulas; shares nothing with kernels/ref but the file reader. */
#include "naive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* y[n] = sum over k of w[n][k] x[k] */
static void multiply(const struct gguf_tensor *tensor, const double *x, double *y)
{
    const float *w = tensor->data;

    for (uint64_t n = 0; n < tensor->dim[1]; n++) {
        y[n] = 0.0;
        for (uint64_t k = 0; k < tensor->dim[0]; k++)
            y[n] += (double)w[n * tensor->dim[0] + k] * x[k];
    }
}

static void normalize(const struct gguf_tensor *gain, double eps, const double *x, double *y)
{
    uint64_t len = gain->dim[0];
    double sum = 0.0;

    for (uint64_t k = 0; k < len; k++)
        sum += x[k] * x[k];
    for (uint64_t k = 0; k < len; k++)
        y[k] = x[k] / sqrt(sum / (double)len + eps) * (double)((const float *)gain->data)[k];
}

static void rotate(const struct model *model, uint32_t position, double *x, uint32_t heads)
{
    const struct model_hyper *h = &model->hyper;

    for (uint32_t head = 0; head < heads; head++)
        for (uint32_t i = 0; i < h->rope_dim / 2; i++) {
            double *pair = x + head * h->head_dim + 2 * i;
            double angle = position * pow((double)h->rope_base, -2.0 * i / h->rope_dim);
            double a = pair[0], b = pair[1];

            if (model->rope_freqs != NULL)
                angle /= (double)((const float *)model->rope_freqs->data)[i];
            pair[0] = a * cos(angle) - b * sin(angle);
            pair[1] = a * sin(angle) + b * cos(angle);
        }
}

/* One head of one query over the first `context` keys and values. */
static void attend(const struct model_hyper *h, const double *q, const double *k, const double *v,
                   uint32_t context, double *out)
{
    double *weight = calloc(context, sizeof(*weight));
    size_t stride = (size_t)h->kv_heads * h->head_dim;
    double sum = 0.0;

    for (uint32_t t = 0; t < context; t++) {
        for (uint32_t d = 0; d < h->head_dim; d++)
            weight[t] += q[d] * k[t * stride + d];
        weight[t] = exp(weight[t] / sqrt(h->head_dim));
        sum += weight[t];
    }
    for (uint32_t d = 0; d < h->head_dim; d++) {
        out[d] = 0.0;
        for (uint32_t t = 0; t < context; t++)
            out[d] += weight[t] / sum * v[t * stride + d];
    }
    free(weight);
}

struct memory {
    double *x, *normed, *q, *k, *v, *heads, *delta, *gate, *up; /* [len][…] */
};

static void attention_part(const struct model *model, const struct model_layer *layer, uint32_t len,
                           struct memory *m)
{
    const struct model_hyper *h = &model->hyper;
    size_t e = h->embed, q = (size_t)h->heads * h->head_dim, kv = (size_t)h->kv_heads * h->head_dim;

    for (uint32_t t = 0; t < len; t++) {
        normalize(layer->attn_norm, (double)h->rms_eps, m->x + t * e, m->normed + t * e);
        multiply(layer->attn_q, m->normed + t * e, m->q + t * q);
        multiply(layer->attn_k, m->normed + t * e, m->k + t * kv);
        multiply(layer->attn_v, m->normed + t * e, m->v + t * kv);
        rotate(model, t, m->q + t * q, h->heads);
        rotate(model, t, m->k + t * kv, h->kv_heads);
        for (uint32_t head = 0; head < h->heads; head++) {
            size_t group = head / (h->heads / h->kv_heads) * h->head_dim;

            attend(h, m->q + t * q + head * h->head_dim, m->k + group, m->v + group, t + 1,
                   m->heads + t * q + head * h->head_dim);
        }
        multiply(layer->attn_output, m->heads + t * q, m->delta);
        for (size_t i = 0; i < e; i++)
            m->x[t * e + i] += m->delta[i];
    }
}

static void feed_forward_part(const struct model *model, const struct model_layer *layer,
                              uint32_t len, struct memory *m)
{
    const struct model_hyper *h = &model->hyper;

    for (uint32_t t = 0; t < len; t++) {
        double *x = m->x + (size_t)t * h->embed;

        normalize(layer->ffn_norm, (double)h->rms_eps, x, m->normed);
        multiply(layer->ffn_gate, m->normed, m->gate);
        multiply(layer->ffn_up, m->normed, m->up);
        for (uint32_t i = 0; i < h->ff; i++)
            m->gate[i] = m->gate[i] / (1.0 + exp(-m->gate[i])) * m->up[i];
        multiply(layer->ffn_down, m->gate, m->delta);
        for (uint32_t i = 0; i < h->embed; i++)
            x[i] += m->delta[i];
    }
}

void naive_forward(const struct model *model, const uint32_t *ids, uint32_t len, double *logits,
                   double *hidden)
{
    const struct model_hyper *h = &model->hyper;
    size_t most = (size_t)len * (h->embed + h->ff + h->heads * h->head_dim);
    struct memory m;
    double **all[] = {&m.x, &m.normed, &m.q, &m.k, &m.v, &m.heads, &m.delta, &m.gate, &m.up};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        *all[i] = calloc(most, sizeof(double));
    for (uint32_t t = 0; t < len; t++)
        for (uint32_t i = 0; i < h->embed; i++)
            m.x[(size_t)t * h->embed + i] =
                (double)((const float *)model->token_embd->data)[(size_t)ids[t] * h->embed + i];
    for (uint32_t layer = 0; layer < h->layers; layer++) {
        attention_part(model, &model->layer[layer], len, &m);
        feed_forward_part(model, &model->layer[layer], len, &m);
    }
    for (uint32_t t = 0; t < len; t++) {
        normalize(model->output_norm, (double)h->rms_eps, m.x + (size_t)t * h->embed, m.normed);
        if (hidden != NULL)
            memcpy(hidden + (size_t)t * h->embed, m.normed, h->embed * sizeof(double));
        if (logits != NULL)
            multiply(model->output, m.normed, logits + (size_t)t * h->vocab);
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(*all[i]);
}

double naive_nmse(const double *want, const float *got, uint32_t len)
{
    double error = 0.0, size = 0.0;

    for (uint32_t i = 0; i < len; i++) {
        double difference = want[i] - (double)got[i];

        error += difference * difference;
        size += want[i] * want[i];
    }
    return error / size;
}
