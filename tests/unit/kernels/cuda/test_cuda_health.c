/* test_cuda_health.c: a card of the emulation falls sick while it is watched. */
#include "kernels/gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char file[] = "/tmp/mserve-nvml-XXXXXX";

/* The emulated driver's words. */
static void say(const char *text)
{
    FILE *out = fopen(file, "w");

    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
}

static int set_up(void **state)
{
    char settings[320];
    int fd = mkstemp(file);

    (void)state;
    if (fd < 0)
        return -1;
    close(fd);
    snprintf(settings, sizeof(settings), "devices=2,memory_mib=64,nvml=%s", file);
    return setenv("MSERVE_EMU", settings, 1);
}

static int tear_down(void **state)
{
    (void)state;
    unlink(file);
    memcpy(file + strlen(file) - 6, "XXXXXX", 6);
    return unsetenv("MSERVE_EMU");
}

static struct gpu_watch *watch_of(uint32_t number)
{
    struct gpu_cards cards;
    char why[GPU_WHY_SIZE] = "";
    struct gpu_watch *watch;

    gpu_list("cuda-emu", &cards);
    assert_int_equal(cards.count, 2);
    watch = gpu_watch_open("cuda-emu", &cards.card[number], why);
    if (!watch)
        fail_msg("%s", why);
    return watch;
}

/* The gauges are the card's own. */
static void test_cuda_a_watch_reads_what_the_driver_says(void **state)
{
    struct gpu_watch *watch = watch_of(1);
    struct gpu_health health;

    (void)state;
    say("memory_used_mib=1\ncard=1\nmemory_used_mib=20\nutilisation=97\npower_mw=650000\n"
        "temperature=61\nthrottle=8\n");
    gpu_watch_look(watch, &health);
    assert_false(health.sick);
    assert_int_equal(health.memory_used_bytes, 20 << 20);
    assert_int_equal(health.memory_bytes, 64 << 20);
    assert_int_equal(health.load_percent, 97);
    assert_int_equal(health.power_mw, 650000);
    assert_int_equal(health.temperature_c, 61);
    assert_true(health.slowed);
    assert_int_equal(health.has, GPU_HAS_MEMORY | GPU_HAS_LOAD | GPU_HAS_POWER |
                                     GPU_HAS_TEMPERATURE | GPU_HAS_ECC | GPU_HAS_SLOWED);
    gpu_watch_close(watch);
}

/* An Xid of before is history, a program's own is none of the card's, one of the card's is for good. */
static void test_cuda_an_xid_while_it_works_makes_a_card_sick(void **state)
{
    struct gpu_watch *watch;
    struct gpu_health health;

    (void)state;
    say("xid=79\n");
    watch = watch_of(0);
    gpu_watch_look(watch, &health);
    assert_false(health.sick);
    say("xid=79\nxid=31\n");
    gpu_watch_look(watch, &health);
    assert_false(health.sick);
    assert_int_equal(health.xid, 31);
    say("xid=79\nxid=31\nxid=79\n");
    gpu_watch_look(watch, &health);
    assert_true(health.sick);
    assert_string_equal(health.reason, "Xid 79: it fell off the bus");
    gpu_watch_look(watch, &health);
    assert_true(health.sick);
    assert_int_equal(health.xids, 0);
    gpu_watch_close(watch);
}

/* Of two cards one is sick. */
static void test_cuda_a_sick_card_is_not_its_neighbour(void **state)
{
    struct gpu_watch *watch[2] = {watch_of(0), watch_of(1)};
    struct gpu_health health;

    (void)state;
    say("card=1\nlost=1\n");
    gpu_watch_look(watch[0], &health);
    assert_false(health.sick);
    gpu_watch_look(watch[1], &health);
    assert_true(health.sick);
    assert_int_equal(health.has, 0);
    gpu_watch_close(watch[0]);
    gpu_watch_close(watch[1]);
}

/* What a plan is made with. */
static void test_cuda_free_memory_is_known_of_a_card_that_is_there(void **state)
{
    struct gpu_cards cards;

    (void)state;
    gpu_list("cuda-emu", &cards);
    assert_true(gpu_memory_free("cuda-emu", cards.card[1].uuid) > 0);
    assert_true(gpu_memory_free("cuda-emu", cards.card[1].uuid) <= 64 << 20);
    assert_int_equal(gpu_memory_free("cuda-emu", "GPU-of-nobody"), 0);
    assert_true(gpu_is_backend("cuda") && gpu_is_backend("cuda-emu") && !gpu_is_backend("cpu"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cuda_a_watch_reads_what_the_driver_says, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_cuda_an_xid_while_it_works_makes_a_card_sick, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_cuda_a_sick_card_is_not_its_neighbour, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_cuda_free_memory_is_known_of_a_card_that_is_there,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
