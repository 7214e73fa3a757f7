/* batch.c: two growable arrays. */
#include "consumer/batch.h"

#include <stdlib.h>

struct batch *batch_new(void)
{
    return xcalloc(1, sizeof(struct batch));
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    for (uint32_t i = 0; i < batch->count; i++)
        task_free(batch->task[i]);
    free(batch->task);
    free(batch->job);
    free(batch);
}

void batch_add(struct batch *batch, struct task *task, uint64_t now_ns)
{
    if (batch->count == batch->cap) {
        batch->cap = batch->cap ? 2 * batch->cap : 256;
        batch->task = xrealloc(batch->task, batch->cap, sizeof(struct task *));
    }
    if (batch->count == 0)
        batch->first_ns = now_ns;
    batch->task[batch->count++] = task;
}

/* Few jobs run at a time, and neighbours are mostly of one: looked for from the end. */
void batch_add_job(struct batch *batch, const struct batch_job *add)
{
    for (uint32_t i = batch->jobs_count; i-- > 0;) {
        struct batch_job *entry = &batch->job[i];

        if (uuid_equal(entry->job, add->job)) {
            entry->wip_ns += add->wip_ns;
            entry->shared_ns += add->shared_ns;
            entry->recompute_ns += add->recompute_ns;
            return;
        }
    }
    batch->job = xrealloc(batch->job, batch->jobs_count + 1, sizeof *batch->job);
    batch->job[batch->jobs_count++] = *add;
}
