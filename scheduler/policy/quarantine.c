/* quarantine.c: halves of halves. */
#include "scheduler/policy/quarantine.h"

#include <assert.h>

static bool reached(uint32_t workers, uint32_t hosts, const struct quarantine_limits *limits)
{
    return workers >= limits->vanished && hosts >= limits->hosts;
}

enum quarantine_verdict quarantine_judge(const struct quarantine_evidence *evidence,
                                         const struct quarantine_limits *limits, uint32_t *ret_cap)
{
    assert(limits->deaths_alone > 0 && limits->vanished > 0 && limits->hosts > 0);
    if (evidence->deaths_alone >= limits->deaths_alone ||
        reached(evidence->vanished_alone, evidence->vanished_alone_hosts, limits))
        return QUARANTINE_GUILTY;
    if (reached(evidence->vanished, evidence->vanished_hosts, limits)) {
        *ret_cap = 1;
        return QUARANTINE_APART;
    }
    if (evidence->cap == 0)
        return QUARANTINE_FREE;
    *ret_cap = evidence->cap;
    return QUARANTINE_APART;
}

struct quarantine_charge quarantine_charge(uint32_t open, bool apart)
{
    return (struct quarantine_charge){
        .cap = open / 2 > 1 ? open / 2 : 1,
        .deaths_alone = apart && open == 1,
    };
}

void quarantine_accuse(struct quarantine_evidence *evidence, struct quarantine_charge charge)
{
    if (evidence->cap == 0 || charge.cap < evidence->cap)
        evidence->cap = charge.cap;
    evidence->deaths_alone += charge.deaths_alone;
}

static uint32_t oldest(const struct quarantine_waiting *waiting, uint32_t count)
{
    uint32_t found = 0;

    for (uint32_t i = 1; i < count; i++)
        if (waiting[i].since_ns < waiting[found].since_ns)
            found = i;
    return found;
}

uint32_t quarantine_pick(const struct quarantine_waiting *waiting, uint32_t count, uint32_t room,
                         uint32_t *ret)
{
    uint32_t cap, picked = 0;

    if (count == 0)
        return 0;
    cap = waiting[oldest(waiting, count)].cap;
    assert(cap > 0);
    for (uint32_t i = 0; i < count && picked < cap && picked < room; i++)
        if (waiting[i].cap == cap)
            ret[picked++] = i;
    return picked;
}

bool quarantine_is_time(uint64_t oldest_ns, uint64_t apart_ns, uint64_t wait_ns, bool has_normal,
                        uint64_t now_ns)
{
    uint64_t from_ns = oldest_ns > apart_ns ? oldest_ns : apart_ns;

    return !has_normal || (now_ns >= from_ns && now_ns - from_ns >= wait_ns);
}
