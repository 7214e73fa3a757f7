/* sample_oracle.c: sort by weight, keep the beginning, add up in the order that is asked for. */
#include "sample_oracle.h"

#include "kernels/maths.h"
#include "kernels/philox.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    float weight;
    uint32_t id;
};

/*
 * Whatever may be taken and weighs something, the heaviest first; then only the first `kept` are.
 */
struct order {
    struct entry *entry;
    uint32_t len, kept;
};

static bool is_allowed(const struct oracle_row *from, uint32_t id)
{
    return from->mask == NULL || (from->mask[id / 32] >> id % 32 & 1) != 0;
}

float oracle_penalised(const struct oracle_row *from, uint32_t id)
{
    const struct sample_row *row = from->row;
    float logit = from->logits[id];
    uint16_t times = from->seen != NULL ? from->seen[id] : 0;
    float often = (float)times * row->frequency;

    if (times == 0)
        return logit;
    logit = logit > 0.0f ? logit / row->repetition : logit * row->repetition;
    logit = logit - often;
    logit = logit - row->presence;
    return logit > FLT_MAX ? FLT_MAX : logit < -FLT_MAX ? -FLT_MAX : logit;
}

uint32_t oracle_greedy(const struct oracle_row *from)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t id = 0; id < from->vocab; id++)
        if (is_allowed(from, id) &&
            (best == UINT32_MAX || oracle_penalised(from, id) > oracle_penalised(from, best)))
            best = id;
    return best;
}

static int heaviest_first(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_id(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* 2^-43 and less is nothing; min_p leaves the beginning as well. */
static struct order order_of(const struct oracle_row *from)
{
    struct order order = {calloc(from->vocab, sizeof(struct entry)), 0, 0};
    float highest = oracle_penalised(from, oracle_greedy(from));

    if (order.entry == NULL)
        abort();
    for (uint32_t id = 0; id < from->vocab; id++) {
        float below = oracle_penalised(from, id) - highest;
        float weight = maths_exp32(below / from->row->temperature);

        if (is_allowed(from, id) && weight >= 0x1p-43f)
            order.entry[order.len++] = (struct entry){weight, id};
    }
    qsort(order.entry, order.len, sizeof(struct entry), heaviest_first);
    for (order.kept = 0; order.kept < order.len; order.kept++)
        if (from->row->min_p > 0.0f &&
            order.entry[order.kept].weight < fminf(from->row->min_p, 1.0f))
            break;
    if (from->row->top_k > 0 && from->row->top_k < order.kept)
        order.kept = from->row->top_k;
    return order;
}

static bool has_top_p(const struct oracle_row *from)
{
    return from->row->top_p > 0.0f && from->row->top_p < 1.0f;
}

static uint64_t mass_of(float weight)
{
    return (uint64_t)ldexp((double)weight, 43);
}

static uint64_t mass_kept(const struct order *order)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < order->kept; i++)
        sum += mass_of(order->entry[i].weight);
    return sum;
}

static struct order order_by_integers(const struct oracle_row *from)
{
    struct order order = order_of(from);
    double want = (double)from->row->top_p * (double)mass_kept(&order);
    uint64_t sum = 0;

    for (uint32_t i = 0; has_top_p(from) && i < order.kept; i++) {
        sum += mass_of(order.entry[i].weight);
        if ((double)sum >= want)
            order.kept = i + 1;
    }
    return order;
}

static struct order order_by_doubles(const struct oracle_row *from)
{
    struct order order = order_of(from);
    double all = 0.0, sum = 0.0;

    for (uint32_t i = 0; i < order.kept; i++)
        all += (double)order.entry[i].weight;
    for (uint32_t i = 0; has_top_p(from) && i < order.kept; i++) {
        sum += (double)order.entry[i].weight;
        if (sum >= (double)from->row->top_p * all)
            order.kept = i + 1;
    }
    return order;
}

uint32_t oracle_token(const struct oracle_row *from)
{
    const struct sample_row *row = from->row;
    struct order order;
    uint64_t unit, target, sum = 0;
    uint32_t token = 0;

    if (!(row->temperature > 0.0f))
        return oracle_greedy(from);
    order = order_by_integers(from);
    unit = (uint64_t)ldexp(philox_unit(row->seed, row->position, row->choice, 0), 53);
    target = (uint64_t)((unsigned __int128)unit * mass_kept(&order) >> 53);
    qsort(order.entry, order.kept, sizeof(struct entry), by_id);
    for (uint32_t i = 0; i < order.kept && sum <= target; i++) {
        sum += mass_of(order.entry[i].weight);
        token = order.entry[i].id;
    }
    free(order.entry);
    return token;
}

void oracle_kept(const struct oracle_row *from, uint8_t *kept)
{
    struct order order = order_by_integers(from);

    memset(kept, 0, from->vocab);
    for (uint32_t i = 0; i < order.kept; i++)
        kept[order.entry[i].id] = 1;
    free(order.entry);
}

void oracle_distribution(const struct oracle_row *from, double *probability)
{
    struct order order = order_by_doubles(from);
    double highest = (double)oracle_penalised(from, oracle_greedy(from));
    double sum = 0.0;

    memset(probability, 0, from->vocab * sizeof(*probability));
    for (uint32_t i = 0; i < order.kept; i++) {
        double below = (double)oracle_penalised(from, order.entry[i].id) - highest;

        probability[order.entry[i].id] = exp(below / (double)from->row->temperature);
        sum += probability[order.entry[i].id];
    }
    for (uint32_t id = 0; id < from->vocab; id++)
        probability[id] /= sum;
    free(order.entry);
}
