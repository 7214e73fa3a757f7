/* cost_oracle.c: plain loops over plain numbers. */
#include "cost_oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Whose account the rows of a request go to. */
enum account { OWN, AGAIN, SHARED };

/* Rows of one request in one step. */
struct share {
    struct oracle_request *request;
    uint64_t rows, kv;
    bool wanted;
    enum account account;
};

struct step {
    struct share share[ORACLE_REQUESTS];
    uint64_t len;
};

enum { BLOCK = 32 };

/* Whole blocks that it has in common with others, but none with its last id. */
static uint32_t common_blocks(const struct oracle_request *request)
{
    const uint32_t common = request->common / BLOCK, whole = (request->prompt - 1) / BLOCK;

    if (request->group == 0)
        return 0;
    return common < whole ? common : whole;
}

/* Blocks from where it stands that somebody else has before him too. */
static uint32_t wanted_by_others(const struct oracle *oracle, const struct oracle_request *request)
{
    uint32_t end = request->at / BLOCK;

    for (uint32_t i = 0; i < oracle->len; i++) {
        const struct oracle_request *other = &oracle->request[i];

        if (other == request || other->group != request->group || other->ended)
            continue;
        if (other->at / BLOCK <= request->at / BLOCK && common_blocks(other) > end)
            end = common_blocks(other);
    }
    end = end < common_blocks(request) ? end : common_blocks(request);
    return end > request->at / BLOCK ? end - request->at / BLOCK : 0;
}

static void plan_request(struct oracle *oracle, struct oracle_request *request, struct step *step)
{
    const uint32_t known = request->prompt + request->resumed;
    const uint32_t paid = request->resumed > 0 ? known - 1 : 0;
    struct share *share = &step->share[step->len];
    const bool decodes = request->at >= known;
    uint32_t shared = 0;

    if (request->at / BLOCK < common_blocks(request)) {
        uint32_t ready = oracle->ready[request->group];

        ready = ready < common_blocks(request) ? ready : common_blocks(request);
        if (ready > request->at / BLOCK) {
            request->cached += ready * BLOCK - request->at;
            request->at = ready * BLOCK;
        }
        shared = wanted_by_others(oracle, request) * BLOCK;
    }
    *share = (struct share){request, 1, 0, true, OWN};
    if (shared > 0)
        *share = (struct share){request, shared, 0, false, SHARED};
    else if (request->at < paid)
        *share = (struct share){request, paid - request->at, 0, false, AGAIN};
    else if (request->at < known)
        share->rows = known - request->at;
    for (uint64_t row = 0; row < share->rows; row++)
        share->kv += (request->at + row + 1) * (decodes ? 1 : oracle->chunk_kv);
    request->at += (uint32_t)share->rows;
    shared =
        request->at / BLOCK < common_blocks(request) ? request->at / BLOCK : common_blocks(request);
    if (shared > oracle->ready[request->group])
        oracle->ready[request->group] = shared; /* before anybody else reads in this step */
    request->pending++;
    step->len++;
}

static uint32_t bits(uint32_t number)
{
    uint32_t len = 0;

    for (; number > 0; number /= 2)
        len++;
    return len;
}

/* Its group's place is that of the first of the group. */
static uint32_t place(const struct oracle *oracle, const struct oracle_request *request)
{
    uint32_t at = 0;

    if (request->group == 0)
        return (uint32_t)(request - oracle->request);
    while (oracle->request[at].group != request->group)
        at++;
    return at;
}

/* Whether `b`, submitted after `a`, goes before it. */
static bool goes_before(const struct oracle *oracle, const struct oracle_request *b,
                        const struct oracle_request *a)
{
    const uint32_t tokens_a = bits(a->rows + 1 - a->prompt - a->resumed);
    const uint32_t tokens_b = bits(b->rows + 1 - b->prompt - b->resumed);

    if (a->embeds != b->embeds)
        return a->embeds;
    if (a->embeds)
        return bits(a->prompt) < bits(b->prompt);
    if (a->resumed > 0 || b->resumed > 0)
        return a->resumed == 0;
    if (tokens_a != tokens_b)
        return tokens_a < tokens_b;
    return place(oracle, b) < place(oracle, a);
}

/* The next to be admitted, NULL when nobody waits. */
static struct oracle_request *next(struct oracle *oracle)
{
    struct oracle_request *first = NULL, *best = NULL;

    for (uint32_t i = 0; i < oracle->len; i++) {
        struct oracle_request *request = &oracle->request[i];

        if (request->admitted || request->ended)
            continue;
        first = first == NULL ? request : first;
        if (best == NULL || goes_before(oracle, request, best))
            best = request;
    }
    if (first != NULL &&
        (uint32_t)(first - oracle->request) + oracle->patience <= oracle->admissions)
        return first;
    return best;
}

static bool wants_rows(const struct oracle_request *request)
{
    return request->running && !request->ended && !request->cancelled &&
           request->at < request->rows;
}

static void plan(struct oracle *oracle, struct step *step)
{
    uint32_t places = oracle->places;
    struct oracle_request *request;

    step->len = 0;
    for (uint32_t i = 0; i < oracle->len; i++)
        places -= wants_rows(&oracle->request[i]);
    /* those that decode or read first: what they compute is there for the admitted */
    for (uint32_t order = 1; order <= oracle->admissions; order++)
        for (uint32_t i = 0; i < oracle->len; i++)
            if (oracle->request[i].rank == order && wants_rows(&oracle->request[i]))
                plan_request(oracle, &oracle->request[i], step);
    for (; places > 0 && (request = next(oracle)) != NULL; places--) {
        request->admitted = request->running = true;
        request->rank = ++oracle->admissions;
        plan_request(oracle, request, step);
    }
}

static void end(struct oracle_request *request)
{
    request->ended = true;
    request->running = false;
}

static void book(struct oracle *oracle, const struct share *share, uint64_t ns)
{
    switch (share->account) {
    case OWN:
        share->request->ns += ns;
        oracle->delivered_ns += ns;
        break;
    case AGAIN:
        share->request->recompute_ns += ns;
        oracle->recompute_ns += ns;
        break;
    case SHARED:
        oracle->shared_ns += ns;
        oracle->group_ns[share->request->group] += ns;
    }
}

static void collect(struct oracle *oracle, const struct step *step)
{
    uint64_t step_ns = oracle->fixed_ns;

    assert_int_equal(oracle->fixed_ns % step->len, 0);
    for (uint64_t i = 0; i < step->len; i++) {
        const struct share *share = &step->share[i];
        struct oracle_request *request = share->request;
        const uint64_t ns = oracle->fixed_ns / step->len + share->rows * oracle->row_ns +
                            share->kv + (share->wanted ? oracle->head_ns : 0);

        step_ns += ns - oracle->fixed_ns / step->len;
        request->pending--;
        if (request->ended) {
            oracle->overhead_ns += ns;
            continue;
        }
        book(oracle, share, ns);
        request->sampled += share->wanted;
        if (request->sampled == request->samples || (request->cancelled && request->pending == 0))
            end(request);
    }
    oracle->held_ns += step_ns;
}

void oracle_run(struct oracle *oracle)
{
    static struct step flight[2];
    uint32_t in_flight = 0;

    oracle->held_ns = oracle->overhead_ns = oracle->load_ns;
    for (uint32_t call = 1;; call++) {
        plan(oracle, &flight[in_flight]);
        const bool planned = flight[in_flight].len > 0;

        in_flight += planned;
        if (in_flight == 0)
            return;
        if (in_flight == 2 || !planned) {
            collect(oracle, &flight[0]);
            flight[0] = flight[1];
            in_flight--;
        }
        for (uint32_t i = 0; i < oracle->len; i++) {
            struct oracle_request *request = &oracle->request[i];

            if (request->cancel_call != call || request->ended)
                continue;
            request->cancelled = true;
            if (request->pending == 0)
                end(request);
        }
    }
}
