/* test_placement.c: which card a worker takes, and that no other takes it too. */
#include "consumer/placement.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/log.h" /* before cmocka, which has a macro of the name of a function there */

#include <cmocka.h>

static struct gpu_cards cards;
static char folder[] = "/tmp/mserve-placement-XXXXXX";
static char said[4096];

static int set_up(void **state)
{
    (void)state;
    memset(&cards, 0, sizeof(cards));
    cards.count = 3;
    snprintf(cards.card[0].uuid, sizeof(cards.card[0].uuid), "GPU-11aa-0");
    snprintf(cards.card[1].uuid, sizeof(cards.card[1].uuid), "GPU-11bb-1");
    snprintf(cards.card[2].uuid, sizeof(cards.card[2].uuid), "GPU-2222-2");
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(cards.card[i].name, sizeof(cards.card[i].name), "NVIDIA H200");
        cards.card[i].memory_bytes = 141ull << 30;
    }
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    char path[256];

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/mserve-gpu-%s", folder, cards.card[i].uuid);
        unlink(path);
    }
    rmdir(folder);
    memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
    return 0;
}

static struct settings_worker wishing(const char *gpu)
{
    return (struct settings_worker){.gpu = gpu, .gpu_dir = folder, .gpu_rest_ms = 600000};
}

static enum err choose(const char *gpu, uint64_t now_ms, struct placement *ret)
{
    struct settings_worker settings = wishing(gpu);
    enum err err;

    said[0] = '\0';
    log_catch(said, sizeof(said));
    err = placement_choose(&settings, &cards, now_ms, ret);
    log_catch(NULL, 0);
    return err;
}

/* By number, UUID, and whatever begins just one of them, in either case. */
static void test_a_card_is_named_in_several_ways(void **state)
{
    static const struct {
        const char *wish;
        int number; /* -1: none or several */
    } rows[] = {{"0", 0},         {"2", 2},      {"3", -1},           {"GPU-11bb-1", 1},
                {"gpu-11B", 1},   {"11aa", 0},   {"GPU-11", -1},      {"GPU-", -1},
                {"GPU-3", -1},    {"2222-2", 2}, {"GPU-2222-2x", -1}, {"-1", -1},
                {"GPU-11aa-0", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t number = 99;

        assert_int_equal(placement_find(&cards, rows[i].wish, &number), rows[i].number >= 0);
        if (rows[i].number >= 0)
            assert_int_equal(number, rows[i].number);
    }
}

/* Three workers take three cards; the fourth is told of all three; one that goes makes room. */
static void test_two_workers_never_have_one_card(void **state)
{
    struct placement taken[3], fourth;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(choose("", 1000, &taken[i]), ERR_OK);
        assert_int_equal(taken[i].index, i);
    }
    assert_int_equal(choose("", 1000, &fourth), ERR_DEVICE);
    assert_non_null(
        strstr(said, "no GPU can be had: 0 GPU-11aa-0 NVIDIA H200 (141 GiB), taken by process "));
    assert_non_null(strstr(said, "2 GPU-2222-2"));
    assert_int_equal(choose("GPU-11bb", 1000, &fourth), ERR_DEVICE);
    placement_release(&taken[1]);
    assert_int_equal(choose("", 1000, &fourth), ERR_OK);
    assert_int_equal(fourth.index, 1);
    placement_release(&fourth);
    placement_release(&taken[0]);
    placement_release(&taken[2]);
    placement_release(&taken[2]);
}

static void do_nothing(void *context)
{
    (void)context;
}

/* A child has the card as well: it is free when the last of them is gone, not before. */
static void test_a_lock_is_that_of_all_processes_of_a_worker(void **state)
{
    struct placement taken, other;

    (void)state;
    assert_int_equal(choose("0", 1000, &taken), ERR_OK);
    assert_true(placement_apart(do_nothing, NULL));
    assert_int_equal(choose("0", 1000, &other), ERR_DEVICE);
    placement_release(&taken);
    assert_int_equal(choose("0", 1000, &other), ERR_OK);
    placement_release(&other);
}

/* A card that was found sick is passed over, and refused by name, until its time is over. */
static void test_a_sick_card_is_left_alone(void **state)
{
    struct placement taken, next;

    (void)state;
    assert_int_equal(choose("", 1000, &taken), ERR_OK);
    placement_mark_sick(&taken, "Xid 79: it fell off the bus", 1000);
    placement_release(&taken);
    assert_int_equal(choose("", 2000, &next), ERR_OK);
    assert_int_equal(next.index, 1);
    placement_release(&next);
    assert_int_equal(choose("0", 2000, &next), ERR_DEVICE);
    assert_non_null(strstr(said, "sick (Xid 79: it fell off the bus), left alone for 9m59s more"));
    assert_int_equal(choose("0", 601000, &next), ERR_OK);
    placement_release(&next);
    assert_int_equal(choose("0", 602000, &next), ERR_OK); /* and is well since it was taken */
    placement_release(&next);
}

/* What is wished and not there is refused with all that is. */
static void test_an_unknown_card_is_refused_with_the_list(void **state)
{
    struct placement taken;

    (void)state;
    assert_int_equal(choose("GPU-11", 1000, &taken), ERR_SETTINGS);
    assert_non_null(strstr(said, "worker.gpu is \"GPU-11\""));
    for (uint32_t i = 0; i < 3; i++)
        assert_non_null(strstr(said, cards.card[i].uuid));
    assert_false(taken.has_card);
}

/* What a process of its own leaves in shared memory is there; one that dies is told of. */
static void leave_a_number(void *context)
{
    *(int *)context = 41;
}

static void die(void *context)
{
    (void)context;
    _exit(3);
}

static void test_work_apart_leaves_its_result(void **state)
{
    int *number = placement_shared(sizeof(*number));

    (void)state;
    assert_non_null(number);
    assert_true(placement_apart(leave_a_number, number));
    assert_int_equal(*number, 41);
    assert_false(placement_apart(die, number));
    placement_unshare(number, sizeof(*number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_card_is_named_in_several_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_workers_never_have_one_card, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_lock_is_that_of_all_processes_of_a_worker, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_sick_card_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_unknown_card_is_refused_with_the_list, set_up,
                                        tear_down),
        cmocka_unit_test(test_work_apart_leaves_its_result),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
