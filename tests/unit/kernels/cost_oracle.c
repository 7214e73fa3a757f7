/* cost_oracle.c: plain loops over plain numbers. */
#include "cost_oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Rows of one request in one step. */
struct share {
    struct oracle_request *request;
    uint64_t rows, kv;
    bool wanted, again; /* again: read before */
};

struct step {
    struct share share[ORACLE_REQUESTS];
    uint64_t len;
};

static void plan_request(struct oracle_request *request, struct step *step)
{
    const uint32_t known = request->prompt + request->resumed;
    const uint32_t paid = request->resumed > 0 ? known - 1 : 0, at = request->at;
    struct share *share = &step->share[step->len];

    *share = (struct share){request, 1, 0, true, false};
    if (at < paid)
        *share = (struct share){request, paid - at, 0, false, true};
    else if (at < known)
        share->rows = known - at;
    else if (at == request->rows)
        return;
    for (uint64_t row = 0; row < share->rows; row++)
        share->kv += at + row + 1;
    request->at += (uint32_t)share->rows;
    request->pending++;
    step->len++;
}

static void plan(struct oracle *oracle, struct step *step)
{
    uint32_t slots = oracle->slots;

    step->len = 0;
    for (uint32_t i = 0; i < oracle->len;
         i++) /* who has a slot, also one that is only dropped rows */
        slots -=
            oracle->request[i].running || (oracle->request[i].ended && oracle->request[i].pending);
    for (uint32_t i = 0; i < oracle->len; i++) {
        struct oracle_request *request = &oracle->request[i];

        if (request->ended || request->cancelled || (!request->running && slots == 0))
            continue;
        slots -= !request->running;
        request->running = true;
        plan_request(request, step);
    }
}

static void end(struct oracle_request *request)
{
    request->ended = true;
    request->running = false;
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
        *(share->again ? &request->recompute_ns : &request->ns) += ns;
        *(share->again ? &oracle->recompute_ns : &oracle->delivered_ns) += ns;
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
