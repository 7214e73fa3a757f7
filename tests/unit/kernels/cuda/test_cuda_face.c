/*
 * What gpu.h promises of any module, asked of one: of MSERVE_GPU_MODULE, or of the one named at
 * compile time. On a machine without a GPU the CUDA module has only its reasons to give, and the rest
 * is skipped; the emulation has all.
 */
#include "kernels/cuda/gpu.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BYTES = 1 << 20 };

static const struct gpu_module *module;
static struct gpu_about about[GPUS_MAX];
static uint32_t cards, driver;

static int open_module(void **state)
{
    const char *path = getenv("MSERVE_GPU_MODULE");
    const struct gpu_module *(*face)(void);
    void *library = dlopen(path ? path : GPU_MODULE, RTLD_NOW | RTLD_LOCAL);

    (void)state;
    if (!library) {
        print_error("%s\n", dlerror());
        return -1;
    }
    *(void **)&face = dlsym(library, GPU_MODULE_SYMBOL);
    module = face ? face() : NULL;
    return module && module->face == GPU_FACE ? 0 : -1;
}

static void assert_one_sentence(const char *why)
{
    assert_non_null(why);
    assert_in_range(strlen(why), 10, 300);
    assert_null(strchr(why, '\n'));
}

static void assert_form(const char *text, const char *form)
{
    assert_int_equal(strlen(text), strlen(form));
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'x')
            assert_non_null(strchr("0123456789abcdefABCDEF", text[i]));
        else
            assert_int_equal(text[i], form[i]);
}

/* Without a card there is a reason, the same for whoever asks; a card that there is, is whole. */
static void cuda_face_lists_cards_or_says_why_not(void **state)
{
    const char *why = NULL, *why_not_open = NULL;

    (void)state;
    assert_non_null(module->kernels);
    assert_true(module->runtime >= 12040);
    cards = module->list(about, &driver, &why);
    if (cards == 0) {
        assert_one_sentence(why);
        assert_null(module->open(0, &why_not_open));
        assert_string_equal(why_not_open, why);
        print_message("# %s\n", why);
    }
    for (uint32_t i = 0; i < cards; i++) {
        assert_form(about[i].uuid, "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_form(about[i].bus, "xxxxxxxx:xx:xx.x");
        assert_true(about[i].name[0]);
        assert_in_range(about[i].capability, 50, 200);
        assert_true(about[i].processors && about[i].shared_bytes >= 48 * 1024);
        assert_true(about[i].memory_bytes >= (uint64_t)BYTES * 64);
    }
    module->close(NULL);
}

/* A card that is not there is refused in words. */
static void cuda_face_refuses_a_card_that_is_not_there(void **state)
{
    const char *why = NULL;

    (void)state;
    assert_null(module->open(GPUS_MAX, &why));
    assert_one_sentence(why);
}

static struct gpu *open_card(void)
{
    const char *why = NULL;
    struct gpu *gpu;

    if (cards == 0)
        skip();
    gpu = module->open(0, &why);
    if (!gpu)
        fail_msg("%s", why);
    return gpu;
}

static void settle(struct gpu *gpu, struct gpu_event *event)
{
    module->event_record(gpu, event);
    assert_true(module->event_wait(gpu, event, -1));
    assert_true(module->event_wait(gpu, event, 0));
    assert_null(module->fault(gpu));
}

/* Bytes go up, across, are overwritten by zeros in the middle, and come back. */
static void cuda_face_copies_and_zeros_run_in_order(void **state)
{
    struct gpu *gpu = open_card();
    struct gpu_event *begin = module->event_new(gpu), *end = module->event_new(gpu);
    uint8_t *up = module->take_host(gpu, BYTES), *down = module->take_host(gpu, BYTES);
    uint8_t *one = module->take(gpu, BYTES), *two = module->take(gpu, BYTES);

    (void)state;
    assert_true(begin && end && up && down && one && two);
    assert_int_equal((uintptr_t)one % 256, 0);
    for (size_t i = 0; i < BYTES; i++) {
        assert_int_equal(up[i], 0);
        up[i] = (uint8_t)(i * 7 + 1);
    }
    module->event_record(gpu, begin);
    module->copy(gpu, one, up, BYTES);
    module->copy(gpu, two, one, BYTES);
    module->zero(gpu, two + 1000, 50);
    module->copy(gpu, down, two, BYTES);
    settle(gpu, end);
    assert_true(module->event_ms(gpu, begin, end) >= 0);
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(down[i], i >= 1000 && i < 1050 ? 0 : up[i]);
    module->give(gpu, one);
    module->give_host(gpu, up);
    module->give(gpu, NULL);
    assert_null(module->fault(gpu));
    module->close(gpu); /* gives back the rest */
}

/* What is recorded does not run, and runs as often as it is launched, on what is there then. */
static void cuda_face_a_graph_replays_what_was_recorded(void **state)
{
    struct gpu *gpu = open_card();
    struct gpu_event *event = module->event_new(gpu);
    uint32_t *host = module->take_host(gpu, 8), *on_card = module->take(gpu, 8);
    struct gpu_graph *graph;

    (void)state;
    assert_true(event && host && on_card);
    module->zero(gpu, on_card, 8);
    settle(gpu, event);
    module->capture_begin(gpu);
    module->copy(gpu, on_card + 1, on_card, 4);
    graph = module->capture_end(gpu);
    assert_non_null(graph);
    for (uint32_t turn = 1; turn <= 3; turn++) {
        host[0] = turn;
        module->copy(gpu, on_card, host, 4);
        settle(gpu, event);
        module->copy(gpu, host, on_card, 8);
        settle(gpu, event);
        assert_int_equal(host[1], turn - 1); /* of the launch before */
        module->graph_launch(gpu, graph);
        module->copy(gpu, host, on_card, 8);
        settle(gpu, event);
        assert_int_equal(host[1], turn);
    }
    module->close(gpu);
}

/* That there is no more memory is an answer and no fault. */
static void cuda_face_memory_that_there_is_not_is_refused(void **state)
{
    struct gpu *gpu = open_card();

    (void)state;
    assert_true(module->memory_free(gpu) <= about[0].memory_bytes);
    assert_null(module->take(gpu, (size_t)1 << 50));
    assert_null(module->fault(gpu));
    module->close(gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuda_face_lists_cards_or_says_why_not),
        cmocka_unit_test(cuda_face_refuses_a_card_that_is_not_there),
        cmocka_unit_test(cuda_face_copies_and_zeros_run_in_order),
        cmocka_unit_test(cuda_face_a_graph_replays_what_was_recorded),
        cmocka_unit_test(cuda_face_memory_that_there_is_not_is_refused),
    };

    return cmocka_run_group_tests(tests, open_module, NULL);
}
