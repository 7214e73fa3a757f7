/* resume.c: open the checkpoint, hold it against the request, copy its tokens. */
#include "consumer/resume.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "config/log.h"
#include "consumer/checkpoint.h"

static struct checkpoint_wanted wanted_by(const struct task *task, const struct checkpoint_row *row,
                                          const struct engine_model *model)
{
    struct checkpoint_wanted wanted = {
        .job = task->chunk->job->id,
        .line = task->chunk->first_line + task->index,
        .epoch = task->chunk->partition->epoch,
        .attempt = row->attempt,
        .tokens = row->tokens,
        .seed = task->sampling.seed,
        .model = model->digest,
        .tokens_max = task->tokens_max,
        .vocab = model->vocab,
        .logprobs = task->logprobs,
    };

    memcpy(wanted.prompt, task->prompt_key, sizeof wanted.prompt);
    return wanted;
}

void resume_task(struct task *task, const struct checkpoint_row *row,
                 const struct engine_model *model, struct arena *scratch)
{
    struct checkpoint_wanted wanted = wanted_by(task, row, model);
    struct checkpoint found;
    const char *why = NULL;

    assert(task->state == TASK_READY && row->line == wanted.line);
    task->attempt = row->attempt + 1;
    arena_clear(scratch);
    if (checkpoint_decode(row->state, scratch, &found, &why) == ERR_OK)
        why = checkpoint_hindrance(&found, &wanted);
    if (why) {
        task->unusable = true;
        log_warn("checkpoint.unusable",
                 "job=%s line=%" PRId64 " attempt=%u msg=\"%s; the request begins anew\"",
                 task->chunk->job->hex, wanted.line, row->attempt, why);
        return;
    }
    task_resume(task, &found,
                found.numerics_changed ||
                    memcmp(found.numerics, model->numerics, sizeof found.numerics) != 0);
    log_debug("request.resumed", "job=%s line=%" PRId64 " attempt=%u tokens=%u",
              task->chunk->job->hex, wanted.line, task->attempt, task->resumed_len);
}
