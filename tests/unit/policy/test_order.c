/* test_order.c: the order of open chunks is fair within a chunk, starves nobody, is the same twice. */
#include "scheduler/policy/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX = 4096, WORK_MAX = 1000 };

static const char *const names[] = {"anna", "bert", "cleo", "dora"};

/* A queue of chunks from which the picked one is taken out. */
struct queue {
    struct order *order;
    struct order_candidate chunk[MAX];
    uint32_t count;
};

static struct queue *queue_new(void)
{
    struct queue *queue = calloc(1, sizeof(*queue));

    queue->order = order_new();
    return queue;
}

static void queue_free(struct queue *queue)
{
    order_free(queue->order);
    free(queue);
}

static void add(struct queue *queue, const char *tenant, uint8_t job, int32_t priority,
                int32_t chunk, uint64_t work)
{
    assert_true(queue->count < MAX);
    queue->chunk[queue->count++] = (struct order_candidate){tenant, {{job}}, priority, chunk, work};
}

static struct order_candidate take(struct queue *queue)
{
    uint32_t at = order_pick(queue->order, queue->chunk, queue->count);
    struct order_candidate taken;

    assert_true(at < queue->count);
    taken = queue->chunk[at];
    queue->chunk[at] = queue->chunk[--queue->count];
    return taken;
}

static uint64_t difference(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* However large their chunks and however many their jobs, tenants with work get the same of it. */
static void test_tenants_differ_by_one_chunk_at_most(void **state)
{
    struct queue *queue = queue_new();
    uint64_t served[4] = {0}, random = 42;

    (void)state;
    for (int i = 0; i < 800; i++)
        add(queue, names[i % 4], (uint8_t)(i % 4 ? 1 : i % 7), 0, i,
            1 + next_random(&random) % WORK_MAX);
    for (int i = 0; i < 400; i++) {
        struct order_candidate taken = take(queue);

        for (int t = 0; t < 4; t++)
            if (strcmp(names[t], taken.tenant) == 0)
                served[t] += taken.work;
        for (int t = 1; t < 4; t++)
            assert_true(difference(served[0], served[t]) <= 2 * WORK_MAX);
    }
    queue_free(queue);
}

static void test_jobs_of_a_tenant_differ_by_one_chunk_at_most(void **state)
{
    struct queue *queue = queue_new();
    uint64_t served[3] = {0}, random = 7;

    (void)state;
    for (int i = 0; i < 600; i++)
        add(queue, "anna", (uint8_t)(i % 3), 0, i, 1 + next_random(&random) % WORK_MAX);
    for (int i = 0; i < 300; i++) {
        struct order_candidate taken = take(queue);

        served[taken.job.bytes[0]] += taken.work;
        assert_true(difference(served[0], served[1]) <= 2 * WORK_MAX);
        assert_true(difference(served[0], served[2]) <= 2 * WORK_MAX);
    }
    queue_free(queue);
}

/* The chunks of a job go in order, from the first. */
static void test_a_job_goes_from_its_first_chunk(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    for (int32_t chunk = 20; chunk-- > 0;)
        add(queue, "anna", 1, 0, chunk, 5);
    for (int32_t chunk = 0; chunk < 20; chunk++)
        assert_int_equal(take(queue).chunk, chunk);
    queue_free(queue);
}

/* Priority is a matter inside a tenant: a tenant cannot use it to get more than its turn. */
static void test_priority_goes_first_inside_a_tenant_only(void **state)
{
    struct queue *queue = queue_new();
    uint32_t anna = 0;

    (void)state;
    for (int32_t chunk = 0; chunk < 10; chunk++) {
        add(queue, "anna", 1, 0, chunk, 10);
        add(queue, "anna", 2, 9, chunk, 10);
        add(queue, "bert", 3, 0, chunk, 10);
    }
    for (int i = 0; i < 20; i++) {
        struct order_candidate taken = take(queue);

        if (strcmp(taken.tenant, "anna") == 0) {
            assert_int_equal(taken.job.bytes[0], 2);
            anna++;
        }
    }
    assert_int_equal(anna, 10);
    queue_free(queue);
}

/* A job of higher priority that comes again and again does not disturb the turns below it. */
static void test_interruptions_do_not_starve_the_jobs_below(void **state)
{
    struct queue *queue = queue_new();
    uint32_t served[3] = {0};

    (void)state;
    for (int32_t chunk = 0; chunk < 200; chunk++) {
        add(queue, "anna", 1, 0, chunk, 10);
        add(queue, "anna", 2, 0, chunk, 10);
    }
    for (int i = 0; i < 100; i++) {
        add(queue, "anna", 0, 5, i, 1000);
        served[take(queue).job.bytes[0]]++;
        served[take(queue).job.bytes[0]]++;
    }
    assert_int_equal(served[0], 100);
    assert_int_equal(served[1], 50);
    assert_int_equal(served[2], 50);
    queue_free(queue);
}

/* Nobody saves up turns by staying away, and nobody pays for it. */
static void test_absence_earns_nothing_and_costs_nothing(void **state)
{
    struct queue *queue = queue_new();
    uint32_t bert = 0;

    (void)state;
    for (int32_t chunk = 0; chunk < 300; chunk++)
        add(queue, "anna", 1, 0, chunk, 10);
    for (int i = 0; i < 100; i++)
        take(queue);
    for (int32_t chunk = 0; chunk < 100; chunk++)
        add(queue, "bert", 2, 0, chunk, 10);
    for (int i = 0; i < 40; i++)
        bert += strcmp(take(queue).tenant, "bert") == 0;
    assert_in_range(bert, 19, 21);
    queue_free(queue);
}

/* A small job that arrives behind a very long one is among the next two. */
static void test_a_small_job_does_not_wait_for_a_long_one(void **state)
{
    struct queue *queue = queue_new();
    bool seen = false;

    (void)state;
    for (int32_t chunk = 0; chunk < 2000; chunk++)
        add(queue, "anna", 1, 0, chunk, 1000);
    for (int i = 0; i < 500; i++)
        take(queue);
    add(queue, "anna", 2, 0, 0, 1);
    for (int i = 0; i < 2; i++)
        seen |= take(queue).job.bytes[0] == 2;
    assert_true(seen);
    queue_free(queue);
}

/* The same calls give the same order, in whatever order the candidates stand. */
static void test_the_order_does_not_depend_on_how_candidates_stand(void **state)
{
    struct queue *one = queue_new(), *two = queue_new();
    uint64_t random = 3;

    (void)state;
    for (int i = 0; i < 500; i++)
        add(one, names[next_random(&random) % 4], (uint8_t)(next_random(&random) % 5),
            (int32_t)(next_random(&random) % 3), i, next_random(&random) % WORK_MAX);
    for (uint32_t i = one->count; i-- > 0;)
        two->chunk[two->count++] = one->chunk[i];
    while (one->count > 0) {
        struct order_candidate a = take(one), b = take(two);

        assert_int_equal(a.chunk, b.chunk);
    }
    queue_free(one);
    queue_free(two);
}

/* Small jobs that never end to come do not starve a long one; and they are forgotten (see leaks). */
static void test_newcomers_do_not_starve_those_who_wait(void **state)
{
    struct queue *queue = queue_new();
    uint32_t served = 0;

    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        struct order_candidate two[2] = {{"anna", {{0}}, 0, (int32_t)i, 10},
                                         {"anna", {{1, (uint8_t)(i >> 8), (uint8_t)i}}, 0, 0, 10}};

        served += order_pick(queue->order, two, 2) == 0;
    }
    assert_in_range(served, 9000, 20000);
    queue_free(queue);
}

/* The same for tenants, whatever their names. */
static void test_new_tenants_do_not_starve_those_who_wait(void **state)
{
    struct queue *queue = queue_new();
    uint32_t served = 0;

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        char name[16];
        struct order_candidate two[2] = {{"zoe", {{0}}, 0, (int32_t)i, 10},
                                         {name, {{1}}, 0, 0, 10}};

        snprintf(name, sizeof(name), "a%u", i);
        served += order_pick(queue->order, two, 2) == 0;
    }
    assert_in_range(served, 450, 1000);
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenants_differ_by_one_chunk_at_most),
        cmocka_unit_test(test_jobs_of_a_tenant_differ_by_one_chunk_at_most),
        cmocka_unit_test(test_a_job_goes_from_its_first_chunk),
        cmocka_unit_test(test_priority_goes_first_inside_a_tenant_only),
        cmocka_unit_test(test_interruptions_do_not_starve_the_jobs_below),
        cmocka_unit_test(test_absence_earns_nothing_and_costs_nothing),
        cmocka_unit_test(test_a_small_job_does_not_wait_for_a_long_one),
        cmocka_unit_test(test_the_order_does_not_depend_on_how_candidates_stand),
        cmocka_unit_test(test_newcomers_do_not_starve_those_who_wait),
        cmocka_unit_test(test_new_tenants_do_not_starve_those_who_wait),
    };

    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
