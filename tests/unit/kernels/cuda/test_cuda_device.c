/*
 * test_cuda_device.c: opening a GPU: the one that is meant, the memory that was planned, what is
 * refused and how, graphs that are used again, faults that stay, and a machine that has no GPU.
 */
#include "kernels/cuda/cuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/buffer.h"
#include "../drive.h"
#include "../../heard.h"
#include "kernels/cuda/card.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/model/tensor.h"
#include "../tiny_model.h"

static const struct tiny_options tiny = {.seed = 5,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 32,
                                         .key_length = true,
                                         .embed = 64,
                                         .ff = 96};

static const struct tiny_options tiny_q8 = {.seed = 5,
                                            .layers = 1,
                                            .heads = 2,
                                            .kv_heads = 1,
                                            .head_dim = 32,
                                            .key_length = true,
                                            .embed = 64,
                                            .ff = 96,
                                            .type = TENSOR_Q8_0};

static const struct device_limits limits = {
    .rows_max = 32, .sequences_max = 4, .context_max = 96, .blocks = 12, .threads = 1};

static struct buffer file, file_q8;
static struct model *model, *model_q8;

static int open_models(void **state)
{
    (void)state;
    model = tiny_open(&tiny, &file);
    model_q8 = tiny_open(&tiny_q8, &file_q8);
    return 0;
}

static int close_models(void **state)
{
    (void)state;
    model_close(model);
    model_close(model_q8);
    buffer_release(&file);
    buffer_release(&file_q8);
    return 0;
}

static enum err open_with(const struct model *with, const struct device_limits *as,
                          struct device **ret)
{
    const struct engine_options options = {.backend = "cuda-emu"};

    return cuda_emu_device.open(with, &options, as, ret);
}

/* What was refused, and the words for it. */
static void check_refused(const struct model *with, const struct device_limits *as, enum err err,
                          const char *words)
{
    struct device *device;

    heard_start();
    assert_int_equal(open_with(with, as, &device), err);
    if (strstr(heard(), words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, heard());
    heard_stop();
}

static void test_the_card_that_is_meant_is_taken(void **state)
{
    struct device_limits as = limits;
    struct card first, second;
    struct device *device;

    (void)state;
    setenv("MSERVE_EMU", "devices=2", 1);
    assert_int_equal(card_find("cuda-emu", "", &first), ERR_OK);
    assert_int_equal(card_find("cuda-emu", "1", &second), ERR_OK);
    assert_string_not_equal(first.about.uuid, second.about.uuid);
    as.gpu = second.about.uuid;
    assert_int_equal(open_with(model, &as, &device), ERR_OK);
    assert_string_equal(forward_backend(device)->about.uuid, second.about.uuid);
    cuda_emu_device.close(device);
    as.gpu = "GPU-ffffffff";
    check_refused(model, &as, ERR_SETTINGS, "; this machine has 0 GPU-");
    as.gpu = "2";
    check_refused(model, &as, ERR_SETTINGS, "there is no GPU");
    unsetenv("MSERVE_EMU");
}

/* The sum of the plan is what is taken, within the pages that allocations are rounded to. */
static void test_the_plan_is_what_is_taken(void **state)
{
    struct engine_plan plan;
    struct device *device;
    struct backend *backend;
    uint64_t taken, sum;

    (void)state;
    setenv("MSERVE_EMU", "memory_mib=64", 1);
    assert_int_equal(cuda_emu_device.plan(model, &limits, &plan), ERR_OK);
    assert_int_equal(open_with(model, &limits, &device), ERR_OK);
    backend = forward_backend(device);
    taken = (64ull << 20) - backend->module->memory_free(backend->gpu);
    sum = plan.weight_bytes + plan.kv_bytes + plan.activation_bytes;
    assert_true(taken >= sum && taken < sum + sum / 20 + 64 * 256);
    assert_int_equal(plan.kv_bytes, 2ull * 12 * 32 * 2 * 2 * 32 * 2);
    cuda_emu_device.close(device);
    unsetenv("MSERVE_EMU");
}

static void test_what_does_not_fit_is_refused_with_the_sum(void **state)
{
    struct device_limits as = limits;

    (void)state;
    setenv("MSERVE_EMU", "memory_mib=64", 1);
    as.blocks = 10000;
    check_refused(model, &as, ERR_MEMORY,
                  "weights 0 MiB + KV cache 156 MiB (320000 tokens) + activations");
    check_refused(model, &as, ERR_MEMORY, "of 64 MiB are free: lower kv_tokens");
    unsetenv("MSERVE_EMU");
}

static void test_numbers_that_a_card_does_not_have_are_refused(void **state)
{
    struct device_limits as = limits;

    (void)state;
    as.kv = ENGINE_KV_F32;
    check_refused(model, &as, ERR_SETTINGS, "bf16 or fp8, not as f32");
}

/* FP8 where the card has it; without it INT8 of a quantised file, and BF16 of any other. */
static void test_what_a_card_lacks_is_planned_around(void **state)
{
    static const struct {
        const char *emu;
        bool q8;
        enum number number;
    } rows[] = {{"capability=90", false, NUMBER_FP8},
                {"capability=80", true, NUMBER_INT8},
                {"capability=80", false, NUMBER_BF16}};
    struct device_limits as = limits;

    (void)state;
    as.weights = ENGINE_WEIGHTS_FP8;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct device *device;

        setenv("MSERVE_EMU", rows[i].emu, 1);
        assert_int_equal(open_with(rows[i].q8 ? model_q8 : model, &as, &device), ERR_OK);
        assert_int_equal(forward_backend(device)->shape.linear, rows[i].number);
        cuda_emu_device.close(device);
    }
    unsetenv("MSERVE_EMU");
}

/* A decode step of a length that was seen before is launched as one. */
static void test_decode_steps_are_replayed(void **state)
{
    uint32_t ids[8];
    struct drive_sequence sequence = {.prompt = ids, .prompt_len = 8, .tokens_max = 12};
    struct drive drive;
    struct backend *backend;

    (void)state;
    tiny_ids(ids, 8, 1);
    drive_open_as(&drive, &cuda_emu_device, model, &limits);
    drive.depth = 2;
    drive_run(&drive, &sequence, 1, 3);
    backend = forward_backend(drive.device);
    assert_int_equal(sequence.tokens_len, 12);
    assert_true(backend->play.len >= 1);
    drive_close(&drive);
}

/* One row of one sequence, from its begin. */
static enum err one_step(struct device *device)
{
    struct step *step = cuda_emu_device.begin(device, 0);
    struct step_result result;

    step->sequences = step->rows = step->wanted = 1;
    step->decodes = 0;
    step->seq_slot[0] = step->seq_row[0] = step->seq_ctx[0] = 0;
    step->seq_rows[0] = 1;
    step->token[0] = 3;
    step->want_row[0] = step->want_seq[0] = 0;
    cuda_emu_device.forward(device, 0);
    cuda_emu_device.sample(device, 0);
    return cuda_emu_device.done(device, 0, -1, &result);
}

/* The N-th launch fails, while it is being opened or later. */
static enum err open_with_fault(uint32_t at, struct device **ret)
{
    char emu[32];

    snprintf(emu, sizeof(emu), "fault_at=%u", at);
    setenv("MSERVE_EMU", emu, 1);
    return open_with(model, &limits, ret);
}

/* A launch that fails: the step says so, and so does every step after it. */
static void test_a_fault_stays(void **state)
{
    struct device *device;
    enum err err = ERR_OK;
    uint32_t at = 100;

    (void)state;
    heard_start();
    assert_int_equal(open_with_fault(3, &device), ERR_DEVICE);
    while (open_with_fault(at, &device))
        at *= 2;
    for (uint32_t i = 0; i < at && err == ERR_OK; i++)
        err = one_step(device);
    assert_int_equal(err, ERR_DEVICE);
    assert_int_equal(one_step(device), ERR_DEVICE);
    cuda_emu_device.close(device);
    unsetenv("MSERVE_EMU");
    assert_non_null(strstr(heard(), "the GPU failed while computing a step"));
    heard_stop();
}

/* `cuda` on a machine without a GPU is `cpu`, and says so. */
static void test_without_a_gpu_the_processor_computes(void **state)
{
    const struct engine_options options = {.backend = "cuda",
                                           .sequences_max = 1,
                                           .waiting_max = 1,
                                           .rows_max = 16,
                                           .context_max = 64,
                                           .threads = 1};
    struct engine_options with = options;
    struct engine *engine;
    char path[128];
    const char *why;

    (void)state;
    if (cuda_device.usable(&why)) {
        print_message("this machine has a GPU\n");
        return;
    }
    tiny_save(&file, path, sizeof(path));
    with.model_path = path;
    heard_start();
    assert_int_equal(engine_open(&with, &engine), ERR_OK);
    assert_non_null(strstr(heard(), "backend=cuda instead=cpu why=\""));
    heard_stop();
    assert_memory_equal(engine_model(engine)->numerics_text, "cpu/", 4);
    engine_close(engine);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_card_that_is_meant_is_taken),
        cmocka_unit_test(test_the_plan_is_what_is_taken),
        cmocka_unit_test(test_what_does_not_fit_is_refused_with_the_sum),
        cmocka_unit_test(test_numbers_that_a_card_does_not_have_are_refused),
        cmocka_unit_test(test_what_a_card_lacks_is_planned_around),
        cmocka_unit_test(test_decode_steps_are_replayed),
        cmocka_unit_test(test_a_fault_stays),
        cmocka_unit_test(test_without_a_gpu_the_processor_computes),
    };

    return cmocka_run_group_tests(tests, open_models, close_models);
}
