/*
 * sample.c: filters need the heaviest tokens only, so they come off a heap one by one until a filter
 * says enough: building it is linear in the vocabulary, and few are taken.
 */
#include "kernels/sample.h"

#include "kernels/maths.h"
#include "kernels/philox.h"

enum { LANES = 16 };

bool sample_finite(const float *logits, uint32_t vocab)
{
    uint32_t worst = 0;

    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t bits;

        memcpy(&bits, &logits[i], sizeof(bits));
        bits &= 0x7f800000u; /* exponent: all ones in infinities and NaN */
        worst = bits > worst ? bits : worst;
    }
    return worst != 0x7f800000u;
}

uint32_t sample_greedy(const float *logits, uint32_t vocab)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* Fills scratch->weight. A quotient that leaves the range of float becomes weight 0. */
static void weigh(const float *logits, uint32_t vocab, float highest, float temperature,
                  float *weight)
{
    for (uint32_t i = 0; i < vocab; i++)
        weight[i] = maths_exp32((logits[i] - highest) / temperature);
}

static bool before(const float *weight, uint32_t a, uint32_t b)
{
    return weight[a] > weight[b] || (weight[a] == weight[b] && a < b);
}

static void sift_down(const float *weight, uint32_t *heap, uint32_t len, uint32_t at)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        uint32_t id = heap[at];

        if (child >= len)
            return;
        if (child + 1 < len && before(weight, heap[child + 1], heap[child]))
            child++;
        if (!before(weight, heap[child], id))
            return;
        heap[at] = heap[child];
        heap[child] = id;
        at = child;
    }
}

/* Moves the heaviest to the end of the heap's memory; the heap is one shorter. */
static uint32_t take(const float *weight, uint32_t *heap, uint32_t *len)
{
    uint32_t id = heap[0];

    heap[0] = heap[--*len];
    heap[*len] = id;
    sift_down(weight, heap, *len, 0);
    return id;
}

/* Ids whose weight is at least `floor`, as a heap; *sum is theirs, in the order of ids. */
static uint32_t build_heap(const float *weight, uint32_t vocab, float floor, uint32_t *heap,
                           double *sum)
{
    uint32_t len = 0;

    *sum = 0.0;
    for (uint32_t i = 0; i < vocab; i++)
        if (weight[i] >= floor) {
            heap[len++] = i;
            *sum += (double)weight[i];
        }
    for (uint32_t at = len / 2; at-- > 0;)
        sift_down(weight, heap, len, at);
    return len;
}

/* Walks the running sum of `count` ids (of 0, 1, 2 … where `ids` is NULL) up to `target`. */
static uint32_t pick(const float *weight, const uint32_t *ids, uint32_t count, double target)
{
    double sum = 0.0;
    uint32_t last = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t id = ids != NULL ? ids[i] : i;

        if (weight[id] <= 0.0f)
            continue;
        sum += (double)weight[id];
        last = id;
        if (sum > target)
            break;
    }
    return last;
}

static void reverse(uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count / 2; i++) {
        uint32_t id = ids[i];

        ids[i] = ids[count - 1 - i];
        ids[count - 1 - i] = id;
    }
}

/* What the filters leave, heaviest first, inside the heap's memory: *kept of them. */
static uint32_t *filter(const float *weight, uint32_t vocab, const struct engine_sampling *sampling,
                        uint32_t *heap, uint32_t *kept, double *kept_sum)
{
    float floor = sampling->min_p > 0.0f ? sampling->min_p : 0.0f; /* the highest weighs 1 */
    bool top_p = sampling->top_p > 0.0f && sampling->top_p < 1.0f;
    double sum, want;
    uint32_t len = build_heap(weight, vocab, floor > 1.0f ? 1.0f : floor, heap, &sum);
    uint32_t end = len;
    uint32_t most = len;
    uint32_t taken = 0;

    if (sampling->top_k > 0 && sampling->top_k < len) {
        most = sampling->top_k;
        for (sum = 0.0; taken < most; taken++)
            sum += (double)weight[take(weight, heap, &len)];
    }
    want = top_p ? (double)sampling->top_p * sum : sum * 2.0;
    *kept_sum = 0.0;
    for (*kept = 0; *kept < most && *kept_sum < want; ++*kept) {
        if (*kept == taken) {
            take(weight, heap, &len);
            taken++;
        }
        *kept_sum += (double)weight[heap[end - 1 - *kept]];
    }
    reverse(heap + end - *kept, *kept);
    return heap + end - *kept;
}

float sample_logprob(const float *logits, uint32_t vocab, uint32_t id)
{
    const float highest = logits[sample_greedy(logits, vocab)];
    double sum[LANES] = {0.0}, total = 0.0, value;
    uint32_t at = 0;

    for (; vocab - at >= LANES; at += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++)
            sum[lane] += (double)maths_exp32(logits[at + lane] - highest);
    for (uint32_t lane = 0; at + lane < vocab; lane++)
        sum[lane] += (double)maths_exp32(logits[at + lane] - highest);
    for (uint32_t lane = 0; lane < LANES; lane++)
        total += sum[lane];
    value = ((double)logits[id] - (double)highest) - maths_log(total);
    return value < 0.0 ? (float)value : 0.0f; /* the highest itself adds 1: rounding only */
}

const struct sample_loops sample_plain = {sample_finite, sample_greedy, weigh, sample_logprob};

uint32_t sample_token(const float *logits, uint32_t vocab, const struct engine_sampling *sampling,
                      uint32_t position, const struct sample_scratch *scratch)
{
    const struct sample_loops *loops = scratch->loops != NULL ? scratch->loops : &sample_plain;
    uint32_t best = loops->greedy(logits, vocab);
    bool filtered = sampling->min_p > 0.0f || (sampling->top_k > 0 && sampling->top_k < vocab) ||
                    (sampling->top_p > 0.0f && sampling->top_p < 1.0f);
    uint32_t count = vocab;
    uint32_t *ids = NULL;
    double sum = 0.0;
    double unit;

    if (!(sampling->temperature > 0.0f))
        return best;
    loops->weigh(logits, vocab, logits[best], sampling->temperature, scratch->weight);
    if (filtered)
        ids = filter(scratch->weight, vocab, sampling, scratch->heap, &count, &sum);
    else
        for (uint32_t i = 0; i < vocab; i++)
            sum += (double)scratch->weight[i];
    unit = philox_unit(sampling->seed, position, sampling->choice, 0);
    return pick(scratch->weight, ids, count, unit * sum);
}
