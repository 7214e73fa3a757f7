/* lanes.c: a list and a ring of lists; the ring holds no lane that is empty. */
#include "consumer/lanes.h"

#include <assert.h>
#include <stdlib.h>

struct lane {
    struct lane *next;
    struct claim_job *job;
    struct mail_list tasks;
};

static struct lane *find_lane(const struct lanes *lanes, const struct claim_job *job)
{
    struct lane *lane = lanes->turn;

    if (!lane)
        return NULL;
    do {
        if (lane->job == job)
            return lane;
        lane = lane->next;
    } while (lane != lanes->turn);
    return NULL;
}

static struct lane *add_lane(struct lanes *lanes, struct claim_job *job)
{
    struct lane *lane = xcalloc(1, sizeof *lane);

    lane->job = claim_job_hold(job);
    if (lanes->turn) {
        lane->next = lanes->turn->next;
        lanes->turn->next = lane;
    } else {
        lane->next = lane;
    }
    lanes->turn = lane;
    return lane;
}

/* Takes the lane behind `before` out of the ring. */
static void remove_lane(struct lanes *lanes, struct lane *before)
{
    struct lane *lane = before->next;

    assert(!lane->tasks.first);
    if (lane == before) {
        lanes->turn = NULL;
    } else {
        before->next = lane->next;
        if (lanes->turn == lane)
            lanes->turn = before;
    }
    claim_job_release(lane->job);
    free(lane);
}

void lanes_add(struct lanes *lanes, struct task *task)
{
    struct lane *lane;

    if (task->resumed_len > 0) {
        mail_list_add(&lanes->resumed, &task->mail);
        return;
    }
    lane = find_lane(lanes, task->chunk->job);
    if (!lane)
        lane = add_lane(lanes, task->chunk->job);
    mail_list_add(&lane->tasks, &task->mail);
}

struct task *lanes_first(const struct lanes *lanes)
{
    if (lanes->resumed.first)
        return task_of(lanes->resumed.first);
    return lanes->turn ? task_of(lanes->turn->next->tasks.first) : NULL;
}

void lanes_take_first(struct lanes *lanes)
{
    struct lane *lane;

    if (mail_list_next(&lanes->resumed))
        return;
    lane = lanes->turn->next;
    mail_list_next(&lane->tasks);
    if (lane->tasks.first)
        lanes->turn = lane;
    else
        remove_lane(lanes, lanes->turn);
}

static void sift(struct mail_list *list, bool (*keep)(void *context, struct task *task),
                 void *context)
{
    struct mail_list kept = {0};
    struct mail *mail;

    while ((mail = mail_list_next(list))) {
        if (keep(context, task_of(mail)))
            mail_list_add(&kept, mail);
    }
    *list = kept;
}

/* A round that never stops at a lane which it has just taken out. */
void lanes_sift(struct lanes *lanes, bool (*keep)(void *context, struct task *task), void *context)
{
    struct lane *before = lanes->turn;
    uint32_t count = 1;

    sift(&lanes->resumed, keep, context);
    if (!before)
        return;
    for (struct lane *lane = before->next; lane != before; lane = lane->next)
        count++;
    for (uint32_t i = 0; i < count; i++) {
        struct lane *lane = before->next;

        sift(&lane->tasks, keep, context);
        if (lane->tasks.first)
            before = lane;
        else
            remove_lane(lanes, before);
    }
}
