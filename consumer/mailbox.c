/* mailbox.c: a locked list, a condition for waiting threads, an eventfd for waiting loops. */
#include "consumer/mailbox.h"

#include <assert.h>
#include <time.h>
#include <unistd.h>

void mail_list_add(struct mail_list *list, struct mail *mail)
{
    mail->next = NULL;
    if (list->last)
        list->last->next = mail;
    else
        list->first = mail;
    list->last = mail;
}

void mail_list_append(struct mail_list *list, struct mail_list *more)
{
    if (!more->first)
        return;
    if (list->last)
        list->last->next = more->first;
    else
        list->first = more->first;
    list->last = more->last;
    *more = (struct mail_list){0};
}

struct mail *mail_list_next(struct mail_list *list)
{
    struct mail *mail = list->first;

    if (!mail)
        return NULL;
    list->first = mail->next;
    if (!list->first)
        list->last = NULL;
    mail->next = NULL;
    return mail;
}

void mailbox_init(struct mailbox *box, int event_fd)
{
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&box->lock, NULL);
    pthread_cond_init(&box->filled, &monotonic);
    pthread_condattr_destroy(&monotonic);
    box->waiting = (struct mail_list){0};
    box->rung = false;
    box->event_fd = event_fd;
}

void mailbox_release(struct mailbox *box)
{
    assert(!box->waiting.first);
    pthread_cond_destroy(&box->filled);
    pthread_mutex_destroy(&box->lock);
}

/* A full eventfd counter is as good as a written one, so the result does not matter. */
static void wake(struct mailbox *box)
{
    const uint64_t one = 1;

    pthread_cond_signal(&box->filled);
    if (box->event_fd >= 0 && write(box->event_fd, &one, sizeof one) < 0)
        return;
}

void mailbox_post(struct mailbox *box, struct mail *mail)
{
    struct mail_list list = {0};

    mail_list_add(&list, mail);
    mailbox_post_list(box, &list);
}

void mailbox_post_list(struct mailbox *box, struct mail_list *list)
{
    bool was_empty;

    if (!list->first)
        return;
    pthread_mutex_lock(&box->lock);
    was_empty = !box->waiting.first;
    mail_list_append(&box->waiting, list);
    pthread_mutex_unlock(&box->lock);
    if (was_empty)
        wake(box);
}

void mailbox_ring(struct mailbox *box)
{
    pthread_mutex_lock(&box->lock);
    box->rung = true;
    pthread_mutex_unlock(&box->lock);
    wake(box);
}

static struct mail_list take_locked(struct mailbox *box)
{
    struct mail_list taken = box->waiting;

    box->waiting = (struct mail_list){0};
    box->rung = false;
    return taken;
}

struct mail_list mailbox_take(struct mailbox *box)
{
    struct mail_list taken;

    pthread_mutex_lock(&box->lock);
    taken = take_locked(box);
    pthread_mutex_unlock(&box->lock);
    return taken;
}

static struct timespec deadline_in(uint64_t timeout_ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(timeout_ms / 1000);
    at.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

struct mail_list mailbox_wait(struct mailbox *box, uint64_t timeout_ms)
{
    struct timespec until = deadline_in(timeout_ms);
    struct mail_list taken;

    pthread_mutex_lock(&box->lock);
    while (!box->waiting.first && !box->rung) {
        if (pthread_cond_timedwait(&box->filled, &box->lock, &until) != 0)
            break;
    }
    taken = take_locked(box);
    pthread_mutex_unlock(&box->lock);
    return taken;
}
