/* test_mailbox.c: what is posted arrives once, in order, and wakes who waits for it. */
#include "consumer/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

struct letter {
    struct mail mail;
    int number;
};

static int number_of(struct mail *mail)
{
    return ((struct letter *)mail)->number;
}

static void test_mail_comes_in_the_order_of_posting(void **state)
{
    struct letter letter[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct mail_list pair = {0};
    struct mail_list got;
    struct mailbox box;

    (void)state;
    mailbox_init(&box, -1);
    mailbox_post(&box, &letter[0].mail);
    mail_list_add(&pair, &letter[1].mail);
    mail_list_add(&pair, &letter[2].mail);
    mailbox_post_list(&box, &pair);
    assert_null(pair.first);
    mailbox_post(&box, &letter[3].mail);

    got = mailbox_take(&box);
    for (int i = 0; i < 4; i++)
        assert_int_equal(number_of(mail_list_next(&got)), i);
    assert_null(mail_list_next(&got));
    got = mailbox_take(&box);
    assert_null(got.first);
    mailbox_release(&box);
}

/* A bell that was rung before the owner looks is not missed; without any, the wait ends by itself. */
static void test_a_bell_is_not_missed(void **state)
{
    struct mailbox box;
    struct mail_list got;

    (void)state;
    mailbox_init(&box, -1);
    mailbox_ring(&box);
    got = mailbox_wait(&box, 60000);
    assert_null(got.first);
    got = mailbox_wait(&box, 1);
    assert_null(got.first);
    mailbox_release(&box);
}

/* A loop that polls the eventfd is woken by the first letter; the others it finds in the box. */
static void test_the_first_letter_writes_the_eventfd(void **state)
{
    struct letter letter[2] = {{.number = 1}, {.number = 2}};
    struct mailbox box;
    uint64_t count = 0;
    int fd = eventfd(0, EFD_NONBLOCK);

    (void)state;
    mailbox_init(&box, fd);
    mailbox_post(&box, &letter[0].mail);
    mailbox_post(&box, &letter[1].mail);
    assert_int_equal(read(fd, &count, sizeof count), sizeof count);
    assert_int_equal(count, 1);
    mailbox_take(&box);
    mailbox_release(&box);
    close(fd);
}

enum { MANY = 20000 };

struct sender {
    struct mailbox *box;
    struct letter letter[MANY];
};

static void *send_all(void *argument)
{
    struct sender *sender = argument;

    for (int i = 0; i < MANY; i++) {
        sender->letter[i].number = i;
        mailbox_post(sender->box, &sender->letter[i].mail);
    }
    return NULL;
}

static void test_a_waiting_thread_gets_all_of_it(void **state)
{
    static struct sender sender;
    struct mailbox box;
    pthread_t thread;
    int next = 0;

    (void)state;
    mailbox_init(&box, -1);
    sender.box = &box;
    assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
    while (next < MANY) {
        struct mail_list got = mailbox_wait(&box, 10000);
        struct mail *mail;

        while ((mail = mail_list_next(&got)))
            assert_int_equal(number_of(mail), next++);
    }
    pthread_join(thread, NULL);
    mailbox_release(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mail_comes_in_the_order_of_posting),
        cmocka_unit_test(test_a_bell_is_not_missed),
        cmocka_unit_test(test_the_first_letter_writes_the_eventfd),
        cmocka_unit_test(test_a_waiting_thread_gets_all_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
