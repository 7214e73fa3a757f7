/* guard_judge.c: what an end means: the decisions of guard.h, without a process. */
#include "consumer/guard.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------------------------- the end ---- */

static bool is_own_fault(int number)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i] == number)
            return true;
    return false;
}

struct guard_death guard_judge(int wait_status, bool killed, uint64_t oom_kills, int sender)
{
    struct guard_death death = {.end = GUARD_KILLED};

    if (WIFEXITED(wait_status)) {
        death.end = GUARD_LEFT;
        death.status = WEXITSTATUS(wait_status);
        return death;
    }
    death.signal = WTERMSIG(wait_status);
    if (death.signal == SIGKILL && killed)
        death.end = GUARD_HUNG;
    else if (death.signal == SIGKILL && oom_kills > 0)
        death.end = GUARD_OUT_OF_MEMORY;
    else if (is_own_fault(death.signal) && sender == 0)
        death.end = GUARD_CRASHED;
    return death;
}

const char *guard_ended(enum guard_end end)
{
    switch (end) {
    case GUARD_LEFT:
        return "preempted";
    case GUARD_CRASHED:
        return "crashed";
    case GUARD_OUT_OF_MEMORY:
        return "out_of_memory";
    case GUARD_HUNG:
        return "hung";
    case GUARD_KILLED:
        break;
    }
    return "vanished";
}

static const char *closed_why(enum guard_end end)
{
    if (end == GUARD_LEFT)
        return "left";
    return end == GUARD_KILLED ? "killed" : guard_ended(end);
}

bool guard_is_proof(enum guard_end end)
{
    return end == GUARD_CRASHED || end == GUARD_OUT_OF_MEMORY || end == GUARD_HUNG;
}

/* -------------------------------------------------------------------------------- the accused ---- */

static uint64_t read64(const atomic_uint_fast64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static uint64_t since(uint64_t now_ns, uint64_t began_ns)
{
    return now_ns > began_ns ? now_ns - began_ns : 0;
}

static struct burial_request request_of(const struct recorder_slot *slot)
{
    struct burial_request ret = {
        .line = slot->line,
        .chunk = slot->chunk,
        .attempt = slot->attempt,
        .tokens = slot->tokens,
        .cost_ns = slot->cost_ns,
        .recompute_ns = slot->recompute_ns,
        .booked_ns = slot->booked_ns,
        .accused = atomic_load_explicit(&slot->state, memory_order_acquire) == RECORDER_RUNNING,
    };

    memcpy(ret.job.bytes, slot->job, sizeof ret.job.bytes);
    return ret;
}

/* Which thread it was, where one crashed. */
enum culprit { DEVICE, INTAKE, ANOTHER };

static enum culprit culprit_of(const struct recorder_head *head, const struct guard_death *death)
{
    if (death->end != GUARD_CRASHED || head->thread[0] == '\0' ||
        strncmp(head->thread, "device", sizeof head->thread) == 0)
        return DEVICE;
    return strncmp(head->thread, "intake", sizeof head->thread) == 0 ? INTAKE : ANOTHER;
}

static void accuse_prepared(const struct recorder_head *head, struct burial_request *requests,
                            uint32_t cap, struct burial *burial)
{
    struct burial_request prepared = {
        .line = head->prepared_line,
        .chunk = head->prepared_chunk,
        .attempt = 1,
        .accused = true,
    };

    if (atomic_load_explicit(&head->preparing, memory_order_acquire) == 0 || burial->count == cap)
        return;
    memcpy(prepared.job.bytes, head->prepared_job, sizeof prepared.job.bytes);
    requests[burial->count++] = prepared;
    burial->charge = quarantine_charge(1, true);
}

static void list_requests(const struct recorder *recorder, bool accuse,
                          struct burial_request *requests, uint32_t cap, struct burial *burial)
{
    uint32_t open = 0;

    for (uint32_t i = 0; i < recorder->head->slots && burial->count < cap; i++) {
        const struct recorder_slot *slot = &recorder->slot[i];
        struct burial_request *request = &requests[burial->count];

        if (atomic_load_explicit(&slot->state, memory_order_acquire) == RECORDER_FREE)
            continue;
        *request = request_of(slot);
        request->accused = request->accused && accuse;
        open += request->accused;
        burial->count++;
    }
    burial->charge = quarantine_charge(open, burial->apart);
}

void guard_describe(const struct recorder *recorder, const struct guard_death *death,
                    struct burial_request *requests, uint32_t cap, struct burial *ret)
{
    const struct recorder_head *head = recorder->head;
    enum culprit culprit = culprit_of(head, death);

    *ret = (struct burial){
        .token = head->token,
        .why = closed_why(death->end),
        .ended = guard_ended(death->end),
        .proven = guard_is_proof(death->end),
        .signal = death->signal,
        .thread = death->end == GUARD_CRASHED ? head->thread : "",
        .held_ns = since(read64(&head->held_ns), read64(&head->began_ns)),
        .overhead_ns = since(read64(&head->overhead_ns), head->began_overhead_ns),
        .idle_ns = since(read64(&head->idle_ns), head->began_idle_ns),
        .recompute_ns = since(read64(&head->recompute_ns), head->began_recompute_ns),
        .requests = requests,
    };
    memcpy(ret->worker.bytes, head->worker, sizeof ret->worker.bytes);
    ret->apart = culprit == DEVICE && atomic_load_explicit(&head->apart, memory_order_acquire) > 0;
    list_requests(recorder, ret->proven && culprit == DEVICE, requests, cap, ret);
    if (ret->proven && culprit == INTAKE)
        accuse_prepared(head, requests, cap, ret);
}

/* ------------------------------------------------------------------------------------ the time ---- */

uint64_t guard_pause_ms(uint32_t deaths, uint64_t max_ms)
{
    uint64_t pause_ms = GUARD_PAUSE_MIN_MS;

    for (uint32_t i = 1; i < deaths && pause_ms < max_ms; i++)
        pause_ms *= 2;
    return pause_ms < max_ms ? pause_ms : max_ms;
}

void guard_age_kills(struct guard_kills *kills, uint64_t passed_ms, uint64_t (*count)(void))
{
    kills->recent_ms += passed_ms;
    if (kills->recent_ms < GUARD_KILLS_MS)
        return;
    kills->before = kills->recent;
    kills->recent = count();
    kills->recent_ms = 0;
}

bool guard_is_hung(struct guard_watch *watch, uint64_t moves, uint64_t passed_ms,
                   uint64_t hung_after_ms)
{
    if (moves == 0 || moves != watch->moves)
        watch->still_ms = 0;
    else
        watch->still_ms += passed_ms;
    watch->moves = moves;
    return watch->still_ms >= hung_after_ms;
}
