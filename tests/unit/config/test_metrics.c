/* test_metrics.c: what is counted stands on the page, in the form that OpenMetrics 1.0 asks for, and
 * docs/metrics.md says what the table says. */
#include "config/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct buffer page;

static const char *render(unsigned programs)
{
    metrics_init(programs, "test", 1500);
    buffer_clear(&page);
    metrics_render(&page);
    return page.data;
}

/* The page has this whole line, once. */
static void has_line(const char *line)
{
    char wanted[512];
    const char *found;

    snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    found = strstr(page.data, wanted);
    if (!found)
        fail_msg("\"%s\" is not in:\n%s", line, page.data);
    assert_null(strstr(found + 1, wanted));
}

static void has_no(const char *text)
{
    assert_null(strstr(page.data, text));
}

static int set_up(void **state)
{
    (void)state;
    metrics_reset();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    metrics_reset();
    buffer_release(&page);
    return 0;
}

/* A counter has _total behind its name, a label its value, and what was never counted is a 0. */
static void test_counts_by_label(void **state)
{
    (void)state;
    metrics_add(METRIC_REQUESTS, OUTCOME_COMPLETED, 40);
    metrics_add(METRIC_REQUESTS, OUTCOME_COMPLETED, 2);
    metrics_add(METRIC_REQUESTS, OUTCOME_EXPIRED, 1);
    render(METRICS_WORKER);
    has_line("# TYPE mserve_requests counter");
    has_line("mserve_requests_total{outcome=\"completed\"} 42");
    has_line("mserve_requests_total{outcome=\"failed\"} 0");
    has_line("mserve_requests_total{outcome=\"expired\"} 1");
}

/* Time is kept in nanoseconds and written in seconds, all nine digits of it where they matter. */
static void test_seconds_are_exact(void **state)
{
    (void)state;
    metrics_set(METRIC_DEVICE, ACCOUNT_IDLE, 9007199254740993); /* no double has this number */
    metrics_set(METRIC_DEVICE, ACCOUNT_SHARED, 1500000000);
    metrics_set(METRIC_DEVICE, ACCOUNT_DELIVERED, 1);
    metrics_set(METRIC_LEASE_LEFT, 0, -250000000);
    metrics_set(METRIC_KV_USAGE, 0, 125000000);
    metrics_set(METRIC_READY_BYTES, 0, 4096);
    render(METRICS_WORKER);
    has_line("# UNIT mserve_device_seconds seconds");
    has_line("mserve_device_seconds_total{account=\"idle\"} 9007199.254740993");
    has_line("mserve_device_seconds_total{account=\"shared\"} 1.5");
    has_line("mserve_device_seconds_total{account=\"delivered\"} 0.000000001");
    has_line("mserve_device_seconds_total{account=\"overhead\"} 0.0");
    has_line("mserve_lease_left_seconds -0.25");
    has_line("mserve_kv_usage_ratio 0.125");
    has_line("mserve_requests_ready_bytes 4096");
    has_line("process_start_time_seconds 1.5");
}

/* A bucket counts what is at most its bound; they grow to the count, and beyond the last is +Inf. */
static void test_buckets_add_up(void **state)
{
    (void)state;
    metrics_observe(METRIC_STEP_DURATION, 50000);
    metrics_observe(METRIC_STEP_DURATION, 50001);
    metrics_observe(METRIC_STEP_DURATION, 5000000001);
    metrics_observe(METRIC_STEP_SEQUENCES, 3);
    metrics_observe(METRIC_STEP_SEQUENCES, 5000);
    render(METRICS_WORKER);
    has_line("mserve_step_duration_seconds_bucket{le=\"0.00005\"} 1");
    has_line("mserve_step_duration_seconds_bucket{le=\"0.0001\"} 2");
    has_line("mserve_step_duration_seconds_bucket{le=\"5.0\"} 2");
    has_line("mserve_step_duration_seconds_bucket{le=\"+Inf\"} 3");
    has_line("mserve_step_duration_seconds_count 3");
    has_line("mserve_step_duration_seconds_sum 5.000100002");
    has_line("mserve_step_sequences_bucket{le=\"2.0\"} 0");
    has_line("mserve_step_sequences_bucket{le=\"4.0\"} 1");
    has_line("mserve_step_sequences_bucket{le=\"4096.0\"} 1");
    has_line("mserve_step_sequences_bucket{le=\"+Inf\"} 2");
    has_line("mserve_step_sequences_sum 5003");
}

/* Names come from people: quotes, backslashes and newlines are escaped, what is no UTF-8 replaced. */
static void test_info_is_escaped(void **state)
{
    const struct metrics_pair pairs[] = {{"name", "a\"b\\c\nd"}, {"tier", "x\xff"}};

    (void)state;
    render(METRICS_WORKER);
    has_no("mserve_worker_info");
    metrics_info(METRIC_WORKER, pairs, 2);
    render(METRICS_WORKER);
    has_line("# TYPE mserve_worker info");
    has_line("mserve_worker_info{name=\"a\\\"b\\\\c\\nd\",tier=\"x\xef\xbf\xbd\"} 1");
    metrics_info(METRIC_WORKER, pairs, 1); /* once said it stays: a reader may have it in hand */
    render(METRICS_WORKER);
    assert_non_null(strstr(page.data, "tier=\"x"));
}

/* Each daemon shows its own rows and those of all, and ends its page as the format says. */
static void test_each_program_has_its_rows(void **state)
{
    (void)state;
    render(METRICS_SCHEDULER);
    has_line("mserve_folds_total 0");
    has_line("mserve_jobs{state=\"in_progress\"} 0");
    has_line("mserve_burials_total 0");
    has_no("mserve_step_duration");
    has_no("\r");
    assert_string_equal(page.data + page.len - 7, "\n# EOF\n");
    render(METRICS_WORKER);
    has_no("mserve_folds");
    has_line("mserve_build_info{version=\"" MSERVE_VERSION "\",program=\"test\"} 1");
}

/* What the kernel says of this process. */
static void test_the_process_is_sampled(void **state)
{
    uint64_t rss;

    (void)state;
    metrics_sample_process();
    rss = atomic_load(&metrics_cells[METRIC_PROCESS_RESIDENT][0]);
    assert_in_range(rss, 100000, (uint64_t)1 << 40);
    assert_in_range(atomic_load(&metrics_cells[METRIC_PROCESS_FDS][0]), 3, 1000);
    assert_true(atomic_load(&metrics_cells[METRIC_PROCESS_FDS_MAX][0]) >= 3);
    assert_true(atomic_load(&metrics_cells[METRIC_PROCESS_CPU][0]) > 0);
    assert_true(atomic_load(&metrics_cells[METRIC_PROCESS_VIRTUAL][0]) >= rss);
}

enum { THREADS = 4, TIMES = 20000 };

static void *count_much(void *argument)
{
    for (int i = 0; i < TIMES; i++) {
        metrics_add(METRIC_TOKENS, TOKENS_OUTPUT, 3);
        metrics_observe(METRIC_COMMIT_DURATION, 1000000);
    }
    return argument;
}

/* Threads count at once, while somebody reads: nothing is lost, and buckets and count agree. */
static void test_many_threads_lose_nothing(void **state)
{
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, count_much, NULL), 0);
    for (int i = 0; i < 20; i++) {
        const char *text = render(METRICS_WORKER);
        unsigned long in_bucket, count;

        text = strstr(text, "mserve_commit_duration_seconds_bucket{le=\"+Inf\"} ");
        assert_int_equal(sscanf(text,
                                "mserve_commit_duration_seconds_bucket{le=\"+Inf\"} %lu\n"
                                "mserve_commit_duration_seconds_count %lu",
                                &in_bucket, &count),
                         2);
        assert_int_equal(in_bucket, count);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    render(METRICS_WORKER);
    has_line("mserve_tokens_total{type=\"output\"} 240000");
    has_line("mserve_commit_duration_seconds_count 80000");
    has_line("mserve_commit_duration_seconds_sum 80.0");
}

/* What a reader of the format may rely on: letters, the unit at the end, a sentence, no name twice. */
static void test_the_table_is_sound(void **state)
{
    static const struct {
        const char *family, *unit, *sentence;
    } rows[] = {
#define X(id, type, family, unit, programs, label, bounds, sentence) {family, unit, sentence},
        METRICS(X)
#undef X
    };

    (void)state;
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const char *family = rows[i].family;
        size_t len = strlen(family), unit = strlen(rows[i].unit);

        assert_int_equal(strspn(family, "abcdefghijklmnopqrstuvwxyz_"), len);
        assert_true(strncmp(family, "mserve_", 7) == 0 || strncmp(family, "process_", 8) == 0);
        if (unit > 0)
            assert_true(len > unit && family[len - unit - 1] == '_' &&
                        strcmp(family + len - unit, rows[i].unit) == 0);
        assert_null(strstr(family, "_total"));
        assert_int_equal(rows[i].sentence[strlen(rows[i].sentence) - 1], '.');
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(family, rows[k].family);
    }
}

/* docs/metrics.md is the table; `ninja -C build metrics_page` writes it. */
static void test_the_page_of_the_documentation_is_the_table(void **state)
{
    struct buffer written = {0};
    FILE *file = fopen(MSERVE_SOURCE "/docs/metrics.md", "r");
    FILE *out = tmpfile();
    char *table;
    long len;

    (void)state;
    assert_non_null(file);
    assert_non_null(out);
    while (!feof(file) && !ferror(file))
        written.len += fread(buffer_reserve(&written, 65536), 1, 65536, file);
    metrics_print_reference(out);
    len = ftell(out);
    table = calloc((size_t)len + 1, 1);
    rewind(out);
    assert_int_equal(fread(table, 1, (size_t)len, out), len);
    buffer_add_byte(&written, '\0');
    assert_string_equal(written.data, table);
    free(table);
    fclose(file);
    fclose(out);
    buffer_release(&written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_counts_by_label, set_up),
        cmocka_unit_test_setup(test_seconds_are_exact, set_up),
        cmocka_unit_test_setup(test_buckets_add_up, set_up),
        cmocka_unit_test_setup(test_info_is_escaped, set_up),
        cmocka_unit_test_setup(test_each_program_has_its_rows, set_up),
        cmocka_unit_test_setup(test_the_process_is_sampled, set_up),
        cmocka_unit_test_setup(test_many_threads_lose_nothing, set_up),
        cmocka_unit_test_setup(test_the_table_is_sound, set_up),
        cmocka_unit_test_setup(test_the_page_of_the_documentation_is_the_table, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, tear_down);
}
