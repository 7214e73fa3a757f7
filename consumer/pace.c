/* pace.c: a mean that forgets: each step counts an eighth. */
#include "consumer/pace.h"

enum { WEIGHT = 8 };

static void add_sample(struct pace *pace, uint64_t sample_ns)
{
    if (pace->step_ns == 0)
        pace->step_ns = sample_ns;
    else
        pace->step_ns = pace->step_ns - pace->step_ns / WEIGHT + sample_ns / WEIGHT;
    if (pace->step_ns == 0)
        pace->step_ns = 1;
}

void pace_note(struct pace *pace, uint64_t steps, bool idle, uint64_t now_ns)
{
    if (pace->seen_ns != 0 && steps > pace->steps && now_ns > pace->seen_ns)
        add_sample(pace, (now_ns - pace->seen_ns) / (steps - pace->steps));
    pace->steps = steps;
    pace->seen_ns = idle ? 0 : now_ns;
}

uint64_t pace_takes_ns(const struct pace *pace, uint64_t tokens)
{
    uint64_t ns;

    return __builtin_mul_overflow(pace->step_ns, tokens, &ns) ? UINT64_MAX : ns;
}
