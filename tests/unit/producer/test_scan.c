/* test_scan.c: whole files: what the index says of them, however the work was divided. */
#include "producer/scan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "tests/unit/shared.h"

static char path[] = "/tmp/mserve-test-scan-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    close(mkstemp(path));
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const void *data, size_t len)
{
    FILE *out = fopen(path, "wb");

    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, len, out), len);
    fclose(out);
}

static struct scan_options options(void)
{
    return (struct scan_options){.line_bytes_max = 1 << 20, .spool_dir = "/tmp", .threads = 2};
}

static enum err spool(struct input *input, uint64_t line_bytes_max)
{
    struct input_spool with = {.dir = "/tmp", .line_bytes_max = line_bytes_max};

    return input_spool(input, &with);
}

static struct input *open_input(const char *name)
{
    struct input *input;

    assert_int_equal(input_open(name, &input), ERR_OK);
    assert_int_equal(spool(input, 1 << 20), ERR_OK);
    return input;
}

static struct scan scan_file(const char *name, const struct scan_options *with)
{
    struct input *input = open_input(name);
    struct scan scan;

    assert_int_equal(scan_run(input, with, &scan), ERR_OK);
    input_close(input);
    return scan;
}

/* All errors of a scan, one JSON object a line. */
static char *errors_of(struct scan *scan)
{
    struct buffer text = {0};

    buffer_add_text(&text, "");
    for (uint64_t i = 0; i < scan->requests; i++) {
        struct line_entry entry;
        uint32_t count;

        assert_int_equal(line_index_read(scan->index, i, &entry, 1, &count), ERR_OK);
        assert_int_equal(count, 1);
        if ((entry.flags & LINE_INVALID) == 0)
            continue;
        assert_int_equal(line_index_error_json(scan->index, &entry, i, &text), ERR_OK);
        buffer_add_byte(&text, '\n');
    }
    return buffer_detach(&text);
}

static void add_line(struct buffer *text, const char *id, const char *prompt)
{
    buffer_printf(text,
                  "{\"custom_id\":\"%s\",\"method\":\"POST\",\"url\":\"/v1/completions\","
                  "\"body\":{\"model\":\"m\",\"prompt\":\"%s\",\"max_tokens\":4}}\n",
                  id, prompt);
}

/* Blank lines are counted and passed over; numbers of lines in errors count them. */
static void test_lines_are_numbered_as_people_count(void **state)
{
    struct scan_options with = options();
    struct buffer text = {0};
    struct scan scan;
    char *errors;

    (void)state;
    buffer_add_text(&text, "\xef\xbb\xbf\n  \r\n");
    add_line(&text, "a", "x");
    buffer_add_text(&text, "\n{]\n");
    add_line(&text, "b", "y");
    add_line(&text, "\\u0061", "z");
    buffer_add_text(&text, "\n{\"custom_id\":\"c\"}");
    write_file(text.data, text.len);
    scan = scan_file(path, &with);
    errors = errors_of(&scan);
    assert_int_equal(scan.requests, 5);
    assert_int_equal(scan.blanks, 4);
    assert_int_equal(line_index_invalid(scan.index), 3);
    assert_int_equal(scan.work, 4 + 4 + 4);
    assert_string_equal(scan.model, "m");
    assert_non_null(strstr(errors, "\"invalid_json_line\""));
    assert_non_null(strstr(errors, "\"line\":5}"));
    assert_non_null(strstr(errors, "{\"code\":\"duplicate_custom_id\",\"message\":\"line 3 has the "
                                   "same custom_id.\",\"param\":\"custom_id\",\"line\":7}"));
    assert_non_null(strstr(errors, "\"line\":9}"));
    free(errors);
    scan_release(&scan);
    buffer_release(&text);
}

/* The index leads to the bytes: custom_id and body stand where it says. */
static void test_the_index_leads_to_the_bytes(void **state)
{
    struct scan_options with = options();
    struct buffer text = {0};
    struct scan scan;

    (void)state;
    for (int i = 0; i < 5000; i++) {
        char id[32], prompt[900];

        snprintf(id, sizeof(id), "id-%d", i);
        memset(prompt, 'p', sizeof(prompt));
        prompt[i % 890] = '\0';
        add_line(&text, id, prompt);
        if (i % 7 == 0)
            buffer_add_text(&text, "\n");
    }
    write_file(text.data, text.len);
    scan = scan_file(path, &with);
    assert_int_equal(scan.requests, 5000);
    assert_int_equal(line_index_invalid(scan.index), 0);
    for (uint32_t i = 0; i < 5000; i++) {
        struct line_entry entry;
        char id[32], model[] = "{\"model\":\"m\"";
        uint32_t count;

        line_index_read(scan.index, i, &entry, 1, &count);
        snprintf(id, sizeof(id), "id-%u", i);
        assert_int_equal(entry.id_len, strlen(id));
        assert_memory_equal(text.data + entry.at + entry.id_at, id, strlen(id));
        assert_memory_equal(text.data + entry.at + entry.body_at, model, strlen(model));
        assert_int_equal(text.data[entry.at + entry.body_at + entry.body_len - 1], '}');
        assert_int_equal(text.data[entry.at + entry.body_at + entry.body_len], '}');
    }
    scan_release(&scan);
    buffer_release(&text);
}

/* A file of good, bad, blank and repeated lines; seeded, so that a failure can be seen again. */
static void make_mixture(struct buffer *text, uint32_t seed, uint32_t lines)
{
    uint32_t random = seed;

    for (uint32_t i = 0; i < lines; i++) {
        char id[32], prompt[2000];

        random = random * 1664525 + 1013904223;
        snprintf(id, sizeof(id), "id-%u", (random >> 16) % (lines * 4));
        memset(prompt, 'a' + (int)(random >> 28), sizeof(prompt));
        prompt[(random >> 8) % 1999] = '\0';
        switch ((random >> 20) % 16) {
        case 0:
            buffer_add_text(text, "   \n");
            break;
        case 1:
            buffer_printf(text, "{\"custom_id\":\"%s\",\"broken\n", id);
            break;
        case 2:
            buffer_printf(text, "{\"custom_id\":\"%s\",\"method\":\"PUT\"}\n", id);
            break;
        default:
            add_line(text, id, prompt);
        }
    }
}

/* Errors, counts, work and digest are the same for one thread, three, and through zstd. */
static void test_the_outcome_does_not_depend_on_who_did_the_work(void **state)
{
    struct scan_options with = options();
    struct buffer text = {0};
    struct scan one, three, packed;
    char *errors[3], *small;
    size_t len;

    (void)state;
    make_mixture(&text, 7, 6000);
    write_file(text.data, text.len);
    with.threads = 1;
    one = scan_file(path, &with);
    with.threads = 3;
    three = scan_file(path, &with);
    len = ZSTD_compressBound(text.len);
    small = malloc(len);
    len = ZSTD_compress(small, len, text.data, text.len, 1);
    write_file(small, len);
    packed = scan_file(path, &with);
    errors[0] = errors_of(&one);
    errors[1] = errors_of(&three);
    errors[2] = errors_of(&packed);
    assert_true(line_index_invalid(one.index) > 1000);
    assert_non_null(strstr(errors[0], "duplicate_custom_id"));
    for (int i = 1; i < 3; i++) {
        struct scan *other = i == 1 ? &three : &packed;

        assert_string_equal(errors[i], errors[0]);
        assert_int_equal(other->requests, one.requests);
        assert_int_equal(other->blanks, one.blanks);
        assert_int_equal(other->work, one.work);
        assert_memory_equal(other->sha256, one.sha256, 32);
        scan_release(other);
        free(errors[i]);
    }
    free(errors[0]);
    free(small);
    scan_release(&one);
    buffer_release(&text);
}

/* A line over the limit is one bad line, whether it ends in the same block or megabytes later. */
static void test_a_long_line_is_one_bad_line(void **state)
{
    struct scan_options with = options();
    struct buffer text = {0};
    struct scan scan;
    char *errors;

    (void)state;
    add_line(&text, "a", "x");
    for (int i = 0; i < (2 << 20); i++)
        buffer_add_byte(&text, 'x');
    buffer_add_byte(&text, '\n');
    add_line(&text, "b", "x");
    for (int i = 0; i < 3 << 20; i++)
        buffer_add_byte(&text, ' ');
    write_file(text.data, text.len);
    with.line_bytes_max = 2000;
    scan = scan_file(path, &with);
    errors = errors_of(&scan);
    assert_int_equal(scan.requests, 4);
    assert_int_equal(line_index_invalid(scan.index), 2);
    assert_non_null(strstr(errors, "\"line_too_long\""));
    assert_non_null(strstr(errors, "\"line\":2}"));
    assert_non_null(strstr(errors, "\"line\":4}"));
    free(errors);
    scan_release(&scan);
    with.line_bytes_max = 4 << 20;
    scan = scan_file(path, &with);
    assert_int_equal(scan.requests, 3);
    assert_int_equal(scan.blanks, 1);
    scan_release(&scan);
    buffer_release(&text);
}

static void test_an_empty_file_has_no_requests(void **state)
{
    struct scan_options with = options();
    struct scan scan;

    (void)state;
    write_file("", 0);
    scan = scan_file(path, &with);
    assert_int_equal(scan.requests, 0);
    scan_release(&scan);
}

static void test_broken_zstd_is_refused(void **state)
{
    char text[4096], small[8192];
    struct input *input;
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)(i * i >> 5);
    len = ZSTD_compress(small, sizeof(small), text, sizeof(text), 1);
    write_file(small, len - 5);
    assert_int_equal(input_open(path, &input), ERR_OK);
    assert_int_equal(spool(input, 1 << 20), ERR_INPUT);
    input_close(input);
    memset(small + 6, 0xff, 8);
    write_file(small, len);
    assert_int_equal(input_open(path, &input), ERR_OK);
    assert_int_equal(spool(input, 1 << 20), ERR_INPUT);
    input_close(input);
}

static void write_packed(const struct buffer *text)
{
    size_t cap = ZSTD_compressBound(text->len);
    char *small = malloc(cap);
    size_t len = ZSTD_compress(small, cap, text->data, text->len, 1);

    assert_false(ZSTD_isError(len));
    write_file(small, len);
    free(small);
}

/* Blank but for its last byte. */
static void add_long_line(struct buffer *text, size_t len)
{
    memset(buffer_reserve(text, len), ' ', len);
    text->len += len - 1;
    buffer_add_text(text, "x\n");
}

/*
 * A few packed bytes may unpack to any length. Of a line over the limit the spool keeps what shows
 * it, and the file is judged as the plain one is; a line far over the limit ends the reading.
 */
static void test_a_packed_long_line_does_not_fill_the_spool(void **state)
{
    struct scan_options with = options();
    struct buffer text = {0};
    struct input *input;
    struct scan scan;
    char *plain, *packed;

    (void)state;
    with.line_bytes_max = 100000;
    add_line(&text, "a", "x");
    add_long_line(&text, 3 << 20);
    add_line(&text, "b", "x");
    add_long_line(&text, 100000 + 4);
    add_long_line(&text, 100000);
    add_line(&text, "a", "x");
    write_file(text.data, text.len);
    scan = scan_file(path, &with);
    plain = errors_of(&scan);
    scan_release(&scan);

    write_packed(&text);
    assert_int_equal(input_open(path, &input), ERR_OK);
    assert_int_equal(spool(input, with.line_bytes_max), ERR_OK);
    assert_true(input_size(input) > 300000 && input_size(input) < 301000);
    assert_int_equal(scan_run(input, &with, &scan), ERR_OK);
    packed = errors_of(&scan);
    assert_non_null(strstr(packed, "\"line_too_long\""));
    assert_string_equal(packed, plain);
    scan_release(&scan);
    input_close(input);

    assert_int_equal(input_open(path, &input), ERR_OK);
    assert_int_equal(spool(input, 1000), ERR_INPUT);
    input_close(input);
    free(plain);
    free(packed);
    buffer_release(&text);
}

static void test_what_is_no_file_is_refused(void **state)
{
    struct input *input;

    (void)state;
    assert_int_equal(input_open("/tmp/does/not/exist", &input), ERR_NOT_FOUND);
    assert_int_equal(input_open("/tmp", &input), ERR_INPUT);
}

/* What would be sent is not what was validated: such a file is refused. */
static void test_a_file_that_changes_is_noticed(void **state)
{
    struct buffer text = {0};
    struct input *input;
    struct scan scan;
    struct scan_options with = options();

    (void)state;
    add_line(&text, "a", "x");
    write_file(text.data, text.len);
    input = open_input(path);
    add_line(&text, "b", "x");
    write_file(text.data, text.len);
    assert_int_equal(scan_run(input, &with, &scan), ERR_INPUT);
    input_close(input);
    buffer_release(&text);
}

/* The job's endpoint and model are those of the first line that is good. */
static void test_the_first_good_line_decides(void **state)
{
    static const struct slice served[] = {{"m", 1}};
    const struct line_models models = {served, 1, ""};
    struct scan_options with = options();
    struct scan_first first;
    struct buffer text = {0};
    struct input *input;

    (void)state;
    buffer_add_text(&text, "{}\n{\"custom_id\":\"x\",\"method\":\"POST\","
                           "\"url\":\"/v1/embeddings\",\"body\":{\"model\":\"n\","
                           "\"input\":\"x\"}}\n");
    write_file(text.data, text.len);
    with.rules.models = &models;
    input = open_input(path);
    assert_int_equal(scan_find_first(input, &with, &first), ERR_OK);
    assert_true(first.has_endpoint && first.endpoint == ENDPOINT_EMBEDDINGS);
    assert_string_equal(first.model, "n");
    free(first.model);
    input_close(input);
    add_line(&text, "a", "x");
    write_file(text.data, text.len);
    input = open_input(path);
    assert_int_equal(scan_find_first(input, &with, &first), ERR_OK);
    assert_int_equal(first.endpoint, ENDPOINT_COMPLETIONS);
    assert_string_equal(first.model, "m");
    free(first.model);
    input_close(input);
    buffer_release(&text);
}

/* The batch files of other projects: how many requests, and what is wrong with which. */
static void test_batch_files_of_other_projects(void **state)
{
    static const struct {
        const char *name;
        enum endpoint endpoint;
        const char *model;
        uint64_t requests, blanks;
        const char *errors[4]; /* code and line of each, in order */
    } files[] = {
        {"aibrix-sample_job_input.jsonl", ENDPOINT_CHAT, "gpt-3.5-turbo-0125", 10, 0, {NULL}},
        {"batchlocallm-demo_batch_10.jsonl", ENDPOINT_CHAT, "google/gemma-3-4b-it", 10, 1, {NULL}},
        {"batchlocallm-synthetic_100.jsonl", ENDPOINT_CHAT, "google/gemma-3-4b-it", 100, 0, {NULL}},
        {"production-stack-batch.jsonl", ENDPOINT_CHAT, "facebook/opt-125m", 2, 0, {NULL}},
        {"vllm-openai_example_batch.jsonl",
         ENDPOINT_CHAT,
         "meta-llama/Meta-Llama-3-8B-Instruct",
         2,
         0,
         {NULL}},
        {"vllm-input_batch.jsonl",
         ENDPOINT_CHAT,
         "NousResearch/Meta-Llama-3-8B-Instruct",
         5,
         1,
         {"model_not_found 4", "invalid_url 5", "unsupported_parameter 6"}},
        {"vllm-invalid_input_batch.jsonl",
         ENDPOINT_CHAT,
         "NousResearch/Meta-Llama-3-8B-Instruct",
         2,
         0,
         {"missing_required_parameter 1"}},
        {"vllm-input_embedding_batch.jsonl",
         ENDPOINT_EMBEDDINGS,
         "intfloat/e5-mistral-7b-instruct",
         4,
         1,
         {"model_not_found 5"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct slice served = {files[i].model, strlen(files[i].model)};
        const struct line_models models = {&served, 1, "big"};
        struct scan_options with = options();
        struct scan scan;
        char name[128], *errors, *at;
        const char *file;

        snprintf(name, sizeof(name), "batch-jsonl/%s", files[i].name);
        file = shared_path(name);
        if (file == NULL)
            skip();
        with.rules = (struct line_rules){true, files[i].endpoint, &models};
        scan = scan_file(file, &with);
        at = errors = errors_of(&scan);
        assert_int_equal(scan.requests, files[i].requests);
        assert_int_equal(scan.blanks, files[i].blanks);
        for (int k = 0; files[i].errors[k] != NULL; k++) {
            char code[64], want[128];
            unsigned line;

            assert_int_equal(sscanf(files[i].errors[k], "%63s %u", code, &line), 2);
            snprintf(want, sizeof(want), "{\"code\":\"%s\",", code);
            assert_int_equal(strncmp(at, want, strlen(want)), 0);
            snprintf(want, sizeof(want), "\"line\":%u}\n", line);
            at = strchr(at, '\n') + 1;
            assert_memory_equal(at - strlen(want), want, strlen(want));
        }
        assert_string_equal(at, "");
        free(errors);
        scan_release(&scan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_numbered_as_people_count),
        cmocka_unit_test(test_the_index_leads_to_the_bytes),
        cmocka_unit_test(test_the_outcome_does_not_depend_on_who_did_the_work),
        cmocka_unit_test(test_a_long_line_is_one_bad_line),
        cmocka_unit_test(test_an_empty_file_has_no_requests),
        cmocka_unit_test(test_broken_zstd_is_refused),
        cmocka_unit_test(test_a_packed_long_line_does_not_fill_the_spool),
        cmocka_unit_test(test_what_is_no_file_is_refused),
        cmocka_unit_test(test_a_file_that_changes_is_noticed),
        cmocka_unit_test(test_the_first_good_line_decides),
        cmocka_unit_test(test_batch_files_of_other_projects),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
