/*
 * resume.h: whether and how a request goes on from what an earlier attempt left.
 *
 * A checkpoint that is damaged, another request's, or of another model is not gone on from: the
 * request begins anew, and its checkpoint is deleted in the next commit. One under another numerics id
 * is: the row says so, and equality with an undisturbed run is not promised.
 *
 * Any thread.
 */
#ifndef MSERVE_CONSUMER_RESUME_H
#define MSERVE_CONSUMER_RESUME_H

#include "consumer/task.h"
#include "kernels/engine.h"
#include "sql/checkpoint.h"

/* `task` is ready to run and has not begun; `scratch` is for the call. */
void resume_task(struct task *task, const struct checkpoint_row *row,
                 const struct engine_model *model, struct arena *scratch);

#endif
