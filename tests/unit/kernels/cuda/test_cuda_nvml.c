/* test_cuda_nvml.c: what is read of a card through functions found at run time, and when it is sick. */
#include "kernels/cuda/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The card as the made-up library has it. */
static struct {
    int begun, sets;
    bool bare;   /* it has only what is needed */
    int answers; /* what every question about the card gives */
    unsigned long long ecc;
    unsigned pending, failed;
    uint32_t xid[40], xids, told;
} nv;

static int one;

static int nv_init(void)
{
    nv.begun++;
    return NVML_OK;
}

static int nv_shutdown(void)
{
    nv.begun--;
    return NVML_OK;
}

static int nv_by_bus(const char *bus, struct nvml_card **card)
{
    *card = (struct nvml_card *)&one;
    return strcmp(bus, "00000000:65:00.0") == 0 ? NVML_OK : NVML_NOT_FOUND;
}

static int nv_by_uuid(const char *uuid, struct nvml_card **card)
{
    *card = (struct nvml_card *)&one;
    return strcmp(uuid, "GPU-1") == 0 ? NVML_OK : NVML_NOT_FOUND;
}

static int nv_memory(struct nvml_card *card, struct nvml_memory *memory)
{
    assert_ptr_equal(card, &one);
    *memory = (struct nvml_memory){.total = 1000, .free = 600, .used = 400};
    return nv.answers;
}

static int nv_load(struct nvml_card *card, struct nvml_load *load)
{
    (void)card;
    *load = (struct nvml_load){.gpu = 97, .memory = 50};
    return nv.answers;
}

static int nv_power(struct nvml_card *card, unsigned *milliwatts)
{
    (void)card;
    *milliwatts = 650123;
    return NVML_NOT_SUPPORTED;
}

static int nv_ecc(struct nvml_card *card, unsigned error, unsigned counter,
                  unsigned long long *count)
{
    (void)card;
    assert_int_equal(error, NVML_UNCORRECTED);
    assert_int_equal(counter, NVML_VOLATILE);
    *count = nv.ecc;
    return nv.answers;
}

static int nv_remapped(struct nvml_card *card, unsigned *corrected, unsigned *uncorrected,
                       unsigned *pending, unsigned *failed)
{
    (void)card;
    *corrected = *uncorrected = 1;
    *pending = nv.pending;
    *failed = nv.failed;
    return nv.answers;
}

static int nv_set_new(struct nvml_set **set)
{
    *set = (struct nvml_set *)&one;
    nv.sets++;
    return NVML_OK;
}

static int nv_set_free(struct nvml_set *set)
{
    assert_ptr_equal(set, &one);
    nv.sets--;
    return NVML_OK;
}

static int nv_watch(struct nvml_card *card, unsigned long long types, struct nvml_set *set)
{
    (void)card;
    assert_ptr_equal(set, &one);
    assert_int_equal(types, NVML_EVENT_XID);
    return NVML_OK;
}

static int nv_wait(struct nvml_set *set, struct nvml_event *event, unsigned timeout_ms)
{
    (void)set;
    assert_int_equal(timeout_ms, 0);
    if (nv.told == nv.xids)
        return NVML_TIMED_OUT;
    event->type = NVML_EVENT_XID;
    event->data = nv.xid[nv.told++];
    return NVML_OK;
}

static void *symbol(const char *name)
{
    static const struct {
        const char *name;
        void (*function)(void);
        bool needed;
    } functions[] = {
        {"nvmlInit_v2", (void (*)(void))nv_init, true},
        {"nvmlShutdown", (void (*)(void))nv_shutdown, true},
        {"nvmlDeviceGetHandleByPciBusId_v2", (void (*)(void))nv_by_bus, true},
        {"nvmlDeviceGetHandleByUUID", (void (*)(void))nv_by_uuid, true},
        {"nvmlDeviceGetMemoryInfo", (void (*)(void))nv_memory, false},
        {"nvmlDeviceGetUtilizationRates", (void (*)(void))nv_load, false},
        {"nvmlDeviceGetPowerUsage", (void (*)(void))nv_power, false},
        {"nvmlDeviceGetTotalEccErrors", (void (*)(void))nv_ecc, false},
        {"nvmlDeviceGetRemappedRows", (void (*)(void))nv_remapped, false},
        {"nvmlEventSetCreate", (void (*)(void))nv_set_new, false},
        {"nvmlEventSetFree", (void (*)(void))nv_set_free, false},
        {"nvmlDeviceRegisterEvents", (void (*)(void))nv_watch, false},
        {"nvmlEventSetWait_v2", (void (*)(void))nv_wait, false},
    };

    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *found;

        if (strcmp(functions[i].name, name) != 0 || (nv.bare && !functions[i].needed))
            continue;
        memcpy(&found, &functions[i].function, sizeof(found));
        return found;
    }
    return NULL;
}

static const struct gpu_module module = {.name = "fake", .symbol = symbol};

static int clear(void **state)
{
    (void)state;
    memset(&nv, 0, sizeof(nv));
    return 0;
}

static struct nvml opened(void)
{
    char why[LIBRARY_WHY_SIZE] = "";
    struct nvml nvml;

    assert_true(nvml_open(&module, "00000000:65:00.0", "GPU-1", &nvml, why));
    return nvml;
}

/* What the card gives is there, what it does not is left out; at the end nothing is held. */
static void test_cuda_what_is_given_is_read(void **state)
{
    struct nvml nvml = opened();
    struct nvml_reading reading;

    (void)state;
    nv.ecc = 3;
    nv.xid[nv.xids++] = 31;
    nvml_read(&nvml, &reading);
    assert_int_equal(reading.has, NVML_HAS_MEMORY | NVML_HAS_LOAD | NVML_HAS_ECC |
                                      NVML_HAS_REMAPPED | NVML_HAS_XIDS);
    assert_int_equal(reading.memory_used_bytes, 400);
    assert_int_equal(reading.memory_bytes, 1000);
    assert_int_equal(reading.load_percent, 97);
    assert_int_equal(reading.power_mw, 0);
    assert_int_equal(reading.ecc_uncorrected, 3);
    assert_int_equal(reading.xids, 1);
    assert_int_equal(reading.xid[0], 31);
    nvml_read(&nvml, &reading);
    assert_int_equal(reading.xids, 0); /* each is told once */
    nvml_close(&nvml);
    assert_int_equal(nv.begun, 0);
    assert_int_equal(nv.sets, 0);
    nvml_close(&nvml);
}

/* A driver that can do next to nothing is no reason not to run. */
static void test_cuda_a_poor_library_tells_nothing_and_is_no_error(void **state)
{
    struct nvml_reading reading;
    struct nvml nvml;
    char why[200];

    (void)state;
    nv.bare = true;
    nvml = opened();
    nvml_read(&nvml, &reading);
    assert_int_equal(reading.has, 0);
    assert_false(health_is_sick(&reading, &reading, why, sizeof(why)));
    nvml_close(&nvml);
}

/* By its UUID where the bus says nothing; one that there is not is refused in words. */
static void test_cuda_a_card_is_found_or_named(void **state)
{
    char why[LIBRARY_WHY_SIZE] = "";
    struct nvml nvml;

    (void)state;
    assert_true(nvml_open(&module, "", "GPU-1", &nvml, why));
    nvml_close(&nvml);
    assert_true(nvml_open(&module, "00000000:66:00.0", "GPU-1", &nvml, why));
    nvml_close(&nvml);
    assert_false(nvml_open(&module, "00000000:66:00.0", "GPU-2", &nvml, why));
    assert_string_equal(why, "NVML knows no card GPU-2 (error 6)");
    assert_int_equal(nv.begun, 0);
    nvml_close(&nvml);
}

/* More Xids than a reading holds come with the next one. */
static void test_cuda_no_xid_is_lost(void **state)
{
    struct nvml nvml = opened();
    struct nvml_reading reading;
    uint32_t seen = 0;

    (void)state;
    for (uint32_t i = 0; i < 40; i++)
        nv.xid[nv.xids++] = i;
    do {
        nvml_read(&nvml, &reading);
        for (uint32_t i = 0; i < reading.xids; i++)
            assert_int_equal(reading.xid[i], seen++);
    } while (reading.xids > 0);
    assert_int_equal(seen, 40);
    nvml_close(&nvml);
}

/* A program's own faults leave a card well, the driver's complaints about the card do not. */
static void test_cuda_an_xid_is_the_cards_or_the_programs(void **state)
{
    static const uint32_t sick[] = {48, 64, 74, 79, 94, 95, 119}, well[] = {13, 31, 43, 45, 63};
    struct nvml_reading first = {0}, now = {.has = NVML_HAS_XIDS};
    char why[200];

    (void)state;
    for (size_t i = 0; i < sizeof(sick) / sizeof(sick[0]); i++) {
        now.xids = 2;
        now.xid[0] = 31;
        now.xid[1] = sick[i];
        assert_true(health_is_sick(&first, &now, why, sizeof(why)));
    }
    assert_string_equal(why, "Xid 119: its system processor (GSP) did not answer");
    for (size_t i = 0; i < sizeof(well) / sizeof(well[0]); i++) {
        now.xids = 1;
        now.xid[0] = well[i];
        assert_false(health_is_sick(&first, &now, why, sizeof(why)));
    }
}

/* Errors of before are over; new ones, a failed remapping, a card that is gone are not. */
static void test_cuda_counters_tell_a_sick_card(void **state)
{
    struct nvml nvml = opened();
    struct nvml_reading first, now;
    char why[200];

    (void)state;
    nv.ecc = 2;
    nv.pending = 1;
    nvml_read(&nvml, &first);
    assert_false(health_is_sick(&first, &first, why, sizeof(why)));
    nv.ecc = 3;
    nvml_read(&nvml, &now);
    assert_true(health_is_sick(&first, &now, why, sizeof(why)));
    assert_string_equal(why, "1 memory errors that ECC could not correct, since this worker has "
                             "had it");
    nv.ecc = 2;
    nv.failed = 1;
    nvml_read(&nvml, &now);
    assert_true(health_is_sick(&first, &now, why, sizeof(why)));
    nv.failed = 0;
    nv.answers = NVML_GPU_IS_LOST;
    nvml_read(&nvml, &now);
    assert_int_equal(now.has, NVML_HAS_XIDS);
    assert_true(health_is_sick(&first, &now, why, sizeof(why)));
    assert_string_equal(why, "it does not answer any more (it fell off the bus)");
    nv.answers = NVML_RESET_REQUIRED;
    nvml_read(&nvml, &now);
    assert_true(health_is_sick(&first, &now, why, sizeof(why)));
    nv.answers = NVML_UNKNOWN; /* which proves nothing */
    nvml_read(&nvml, &now);
    assert_false(health_is_sick(&first, &now, why, sizeof(why)));
    nvml_close(&nvml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_cuda_what_is_given_is_read, clear),
        cmocka_unit_test_setup(test_cuda_a_poor_library_tells_nothing_and_is_no_error, clear),
        cmocka_unit_test_setup(test_cuda_a_card_is_found_or_named, clear),
        cmocka_unit_test_setup(test_cuda_no_xid_is_lost, clear),
        cmocka_unit_test_setup(test_cuda_an_xid_is_the_cards_or_the_programs, clear),
        cmocka_unit_test_setup(test_cuda_counters_tell_a_sick_card, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
