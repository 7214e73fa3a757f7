/*
 * mailbox.h: messages from many threads to one. The node is embedded in what is sent, so posting
 * allocates nothing; what is posted belongs to the receiver.
 *
 * THREADS mailbox_post* from any thread; mailbox_take and mailbox_wait from the owner only.
 */
#ifndef MSERVE_CONSUMER_MAILBOX_H
#define MSERVE_CONSUMER_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct mail {
    struct mail *next;
};

/* A run of messages in order; {0} is empty. One thread's own. */
struct mail_list {
    struct mail *first;
    struct mail *last;
};

void mail_list_add(struct mail_list *list, struct mail *mail);
void mail_list_append(struct mail_list *list, struct mail_list *more); /* empties `more` */
struct mail *mail_list_next(struct mail_list *list); /* takes the first; NULL when empty */

struct mailbox {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct mail_list waiting;
    bool rung;    /* mailbox_ring() since the owner last looked */
    int event_fd; /* written when mail arrives in an empty box; -1: none. Borrowed. */
};

void mailbox_init(struct mailbox *box, int event_fd);
void mailbox_release(struct mailbox *box);

void mailbox_post(struct mailbox *box, struct mail *mail);
void mailbox_post_list(struct mailbox *box, struct mail_list *list); /* empties `list` */

/* Wakes the owner without a message. */
void mailbox_ring(struct mailbox *box);

/* Everything that has arrived, in order; empty when there is nothing. */
struct mail_list mailbox_take(struct mailbox *box);

/* The same, but waits until there is something, the bell rings, or the time is over. */
struct mail_list mailbox_wait(struct mailbox *box, uint64_t timeout_ms);

#endif
