/* suspects.c: a list, a set, and which of the phases comes next. */
#include "consumer/suspects.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/policy/quarantine.h"

void suspects_release(struct suspects *suspects)
{
    for (uint32_t i = 0; i < suspects->count; i++)
        task_free(suspects->waiting[i]);
    for (uint32_t i = suspects->set_next; i < suspects->set_count; i++)
        task_free(suspects->set[i]);
    free(suspects->waiting);
    free(suspects->set);
    *suspects = (struct suspects){0};
}

void suspects_add(struct suspects *suspects, struct task *task, uint64_t now_ns)
{
    assert(task->cap > 0);
    if (suspects->count == suspects->cap) {
        suspects->cap = suspects->cap ? 2 * suspects->cap : 64;
        suspects->waiting = xrealloc(suspects->waiting, suspects->cap, sizeof(struct task *));
    }
    task->since_ns = now_ns;
    suspects->waiting[suspects->count++] = task;
}

/* Keeps the order. */
static uint32_t sift(struct task **list, uint32_t from, uint32_t count,
                     bool (*keep)(void *context, struct task *task), void *context)
{
    uint32_t kept = from;

    for (uint32_t i = from; i < count; i++)
        if (keep(context, list[i]))
            list[kept++] = list[i];
    return kept;
}

void suspects_sift(struct suspects *suspects, bool (*keep)(void *context, struct task *task),
                   void *context)
{
    suspects->count = sift(suspects->waiting, 0, suspects->count, keep, context);
    suspects->set_count =
        sift(suspects->set, suspects->set_next, suspects->set_count, keep, context);
}

/* ------------------------------------------------------------------------------------ the set ---- */

static bool is_time(const struct suspects *suspects, bool has_normal, uint64_t now_ns)
{
    uint64_t oldest_ns = UINT64_MAX;

    if (suspects->count == 0)
        return false;
    for (uint32_t i = 0; i < suspects->count; i++)
        if (suspects->waiting[i]->since_ns < oldest_ns)
            oldest_ns = suspects->waiting[i]->since_ns;
    return quarantine_is_time(oldest_ns, suspects->apart_ns, suspects->wait_ns, has_normal, now_ns);
}

/* Moves what was picked from the list to the set; `pick` ascends. */
static void move(struct suspects *suspects, const uint32_t *pick, uint32_t count)
{
    uint32_t left = 0, next = 0;

    suspects->set = xrealloc(suspects->set, count, sizeof(struct task *));
    for (uint32_t i = 0; i < suspects->count; i++) {
        if (next < count && pick[next] == i)
            suspects->set[next++] = suspects->waiting[i];
        else
            suspects->waiting[left++] = suspects->waiting[i];
    }
    suspects->count = left;
    suspects->set_count = count;
    suspects->set_next = 0;
}

static void choose(struct suspects *suspects, uint32_t room)
{
    struct quarantine_waiting *waiting = xcalloc(suspects->count, sizeof *waiting);
    uint32_t *pick = xcalloc(room, sizeof *pick);
    uint32_t count;

    for (uint32_t i = 0; i < suspects->count; i++)
        waiting[i] =
            (struct quarantine_waiting){suspects->waiting[i]->cap, suspects->waiting[i]->since_ns};
    count = quarantine_pick(waiting, suspects->count, room, pick);
    move(suspects, pick, count);
    free(waiting);
    free(pick);
}

/* ---------------------------------------------------------------------------------- the phases ---- */

static enum suspects_order begin_set(struct suspects *suspects, const struct suspects_view *view)
{
    if (suspects->count == 0) { /* they were withdrawn meanwhile */
        suspects->phase = SUSPECTS_WAIT;
        return SUSPECTS_FEED;
    }
    if (!view->engine_empty || !view->may_mark)
        return SUSPECTS_HOLD;
    choose(suspects, view->room);
    suspects->mark++;
    suspects->phase = SUSPECTS_MARK;
    return SUSPECTS_CUT;
}

static enum suspects_order run_set(struct suspects *suspects, const struct suspects_view *view,
                                   uint64_t now_ns)
{
    if (suspects->set_next < suspects->set_count)
        return SUSPECTS_LAUNCH;
    if (!view->engine_empty)
        return SUSPECTS_HOLD;
    suspects->phase = SUSPECTS_WAIT;
    suspects->apart_ns = now_ns;
    return SUSPECTS_END;
}

enum suspects_order suspects_turn(struct suspects *suspects, const struct suspects_view *view,
                                  uint64_t now_ns)
{
    switch (suspects->phase) {
    case SUSPECTS_WAIT:
        if (!is_time(suspects, view->has_normal, now_ns))
            return SUSPECTS_FEED;
        suspects->phase = SUSPECTS_EMPTY;
        return begin_set(suspects, view);
    case SUSPECTS_EMPTY:
        return begin_set(suspects, view);
    case SUSPECTS_MARK:
        if (view->marked != suspects->mark)
            return SUSPECTS_HOLD;
        suspects->phase = SUSPECTS_RUN;
        return run_set(suspects, view, now_ns);
    case SUSPECTS_RUN:
        break;
    }
    return run_set(suspects, view, now_ns);
}

void suspects_write_set(const struct suspects *suspects, struct buffer *out)
{
    char id[UUID_TEXT_SIZE];

    buffer_add_byte(out, '[');
    for (uint32_t i = 0; i < suspects->set_count; i++) {
        const struct task *task = suspects->set[i];

        buffer_add_text(out, i > 0 ? ",{\"job\":\"" : "{\"job\":\"");
        buffer_add_text(out, uuid_format(task->chunk->job->id, id));
        buffer_add_text(out, "\",\"line\":");
        buffer_add_i64(out, task->chunk->first_line + task->index);
        buffer_add_text(out, ",\"chunk\":");
        buffer_add_i64(out, task->chunk->chunk);
        buffer_add_byte(out, '}');
    }
    buffer_add_byte(out, ']');
}

struct task *suspects_first(const struct suspects *suspects)
{
    return suspects->set_next < suspects->set_count ? suspects->set[suspects->set_next] : NULL;
}

void suspects_take_first(struct suspects *suspects)
{
    assert(suspects->set_next < suspects->set_count);
    suspects->set_next++;
}
