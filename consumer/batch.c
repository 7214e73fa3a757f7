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
    free(batch->wip);
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
void batch_add_wip(struct batch *batch, struct uuid job, uint64_t ns)
{
    for (uint32_t i = batch->wip_count; i-- > 0;) {
        if (uuid_equal(batch->wip[i].job, job)) {
            batch->wip[i].ns += ns;
            return;
        }
    }
    batch->wip = xrealloc(batch->wip, batch->wip_count + 1, sizeof *batch->wip);
    batch->wip[batch->wip_count++] = (struct batch_wip){job, ns};
}
