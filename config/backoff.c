/* backoff.c: doubling, with chance. */
#include "config/backoff.h"

#include "config/uuid.h"

uint32_t backoff_jitter(uint32_t ms)
{
    uint32_t chance;

    random_fill(&chance, sizeof(chance));
    return ms - (uint32_t)(chance % ((uint64_t)ms / 2 + 1));
}

uint32_t backoff_next(struct backoff *backoff)
{
    uint32_t step = backoff->step_ms;

    step = step == 0 ? backoff->min_ms : step > backoff->max_ms / 2 ? backoff->max_ms : 2 * step;
    backoff->step_ms = step < backoff->max_ms ? step : backoff->max_ms;
    return backoff_jitter(backoff->step_ms);
}
