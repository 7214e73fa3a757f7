/* test_results.c: rows as lines: OpenAI's, a table's, a document's; and the sink they go to. */
#include "producer/results/results_format.h"
#include "producer/results/results_join.h"
#include "producer/results/results_sink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

static const struct uuid job = {
    {0x01, 0xa1, 0xfd, 0xa8, 0xc1, 0xb5, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1}};

static struct slice slice(const char *text)
{
    return (struct slice){text, text != NULL ? strlen(text) : 0};
}

static struct result_row row_of(int64_t line, const char *response)
{
    return (struct result_row){
        .line = line,
        .job = job,
        .job_line = line,
        .custom_id = SLICE("c"),
        .status = SLICE("completed"),
        .completed = true,
        .has_status_code = true,
        .status_code = 200,
        .response = slice(response),
        .input_tokens = 3,
        .output_tokens = 2,
        .gpu_ns = 1000,
        .finished_us = INT64_C(1769903999123456),
    };
}

static struct result_row failed_row(int64_t line, const char *error)
{
    struct result_row row = row_of(line, NULL);

    row.status = SLICE("failed");
    row.completed = row.has_status_code = false;
    row.error = slice(error);
    return row;
}

static void assert_csv(struct result_row row, bool good, const char *expected)
{
    struct buffer out = {0};
    struct arena arena = {0};

    assert_int_equal(results_csv_line(&out, &arena, &row), good);
    assert_string_equal(out.data, expected);
    buffer_release(&out);
    arena_release(&arena);
}

static void assert_cell(const char *text, const char *expected)
{
    struct buffer out = {0};

    buffer_add_text(&out, "");
    results_csv_text(&out, slice(text));
    assert_string_equal(out.data, expected);
    buffer_release(&out);
}

/* That the bytes are those of the view is tested where there is a view: tests/flow/test_results.sh. */
static void test_an_openai_line_keeps_the_body_as_it_is(void **state)
{
    struct buffer out = {0};
    struct result_row row = row_of(7, "{ \"n\" : 1e400, \"s\":\"\\u0000\"}");

    (void)state;
    row.job_line = 12; /* of a retry */
    row.custom_id = SLICE("a\"\\\n\x01");
    results_openai_line(&out, &row);
    assert_string_equal(out.data,
                        "{\"id\":\"batch_req_01a1fda8c1b570008000000000000001_12\",\"custom_id\":"
                        "\"a\\\"\\\\\\n\\u0001\",\"response\":{\"status_code\":200,\"request_id\":"
                        "\"req_01a1fda8c1b570008000000000000001_12\",\"body\":"
                        "{ \"n\" : 1e400, \"s\":\"\\u0000\"}},\"error\":null}\n");
    buffer_release(&out);
}

static void test_a_table_has_the_text_of_each_kind_of_answer(void **state)
{
    (void)state;
    assert_csv(row_of(0, "{\"choices\":[{\"message\":{\"content\":\"Hello, \\\"you\\\"\"},"
                         "\"finish_reason\":\"stop\"},{\"message\":{\"content\":\"second\"}}]}"),
               true,
               "c,0,completed,200,stop,\"Hello, \"\"you\"\"\",,,3,2,1000,"
               "2026-01-31T23:59:59.123456Z\n");
    assert_csv(row_of(1, "{\"choices\":[{\"text\":\"x\\u0000y\",\"finish_reason\":\"length\"}]}"),
               true,
               "c,1,completed,200,length,x\xEF\xBF\xBDy,,,3,2,1000,2026-01-31T23:59:59.123456Z\n");
    assert_csv(row_of(2, "{\"data\":[{\"embedding\":[0.5, -1]}]}"), true,
               "c,2,completed,200,,\"[0.5, -1]\",,,3,2,1000,2026-01-31T23:59:59.123456Z\n");
    assert_csv(failed_row(3, "{\"code\":\"batch_expired\",\"message\":\"too late\"}"), true,
               "c,3,failed,,,,batch_expired,too late,3,2,1000,2026-01-31T23:59:59.123456Z\n");
}

static void test_an_error_that_was_answered_is_found_in_its_body(void **state)
{
    struct result_row row =
        row_of(0, "{\"error\":{\"code\":\"invalid_value\",\"message\":\"a, b\"}}");

    (void)state;
    row.status = SLICE("failed");
    row.completed = false;
    row.status_code = 400;
    assert_csv(row, true,
               "c,0,failed,400,,,invalid_value,\"a, b\",3,2,1000,2026-01-31T23:59:59.123456Z\n");
}

/* PostgreSQL's json takes half a surrogate pair; who reads it does not. The row is there all the same. */
static void test_what_cannot_be_read_leaves_the_text_empty(void **state)
{
    (void)state;
    assert_csv(row_of(0, "{\"choices\":[{\"text\":\"\\ud800\"}]}"), false,
               "c,0,completed,200,,,,,3,2,1000,2026-01-31T23:59:59.123456Z\n");
}

/* A document says what its answer shall begin with; a spreadsheet must not run it. */
static void test_a_formula_is_defused_and_a_number_is_not(void **state)
{
    (void)state;
    assert_cell("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\"");
    assert_cell("+cmd", "'+cmd");
    assert_cell("-2+3", "'-2+3");
    assert_cell("@SUM(A1)", "'@SUM(A1)");
    assert_cell("\t=1", "\"'\t=1\"");
    assert_cell("\r=1", "\"'\r=1\"");
    assert_cell("\uFF1D1", "'\uFF1D1");
    assert_cell("'=1", "''=1");
    assert_cell("'quoted'", "'quoted'");
    assert_cell("-1.5", "-1.5");
    assert_cell("+7", "+7");
    assert_cell("-", "'-");
    assert_cell(" x", "\" x\"");
    assert_cell("", "");
    assert_cell("two\nlines", "\"two\nlines\"");
}

static bool add_part(struct results_join *join, int64_t first, int32_t parts, struct result_row row)
{
    struct arena arena = {0};
    bool whole;

    row.first_line = first;
    row.parts = parts;
    row.path = SLICE("a/b.txt");
    whole = results_join_add(join, &arena, &row);
    arena_release(&arena);
    return whole;
}

static void assert_document(const struct results_join *join, enum results_format format,
                            const char *expected)
{
    struct buffer out = {0};

    results_join_line(join, &out, format);
    assert_string_equal(out.data, expected);
    buffer_release(&out);
}

#define TEXT(text) "{\"choices\":[{\"text\":\"" text "\"}]}"
#define LINE(line, body)                                                                           \
    "{\"id\":\"batch_req_01a1fda8c1b570008000000000000001_" line "\",\"custom_id\":\"c\","         \
    "\"response\":{\"status_code\":200,\"request_id\":\"req_"                                      \
    "01a1fda8c1b570008000000000000001_" line "\",\"body\":" body "},\"error\":null}"

static void test_parts_become_one_document(void **state)
{
    struct results_join join;

    (void)state;
    results_join_init(&join);
    assert_false(add_part(&join, 4, 2, row_of(4, TEXT("one"))));
    assert_true(add_part(&join, 4, 2, row_of(5, TEXT("two"))));
    assert_true(results_join_completed(&join));
    assert_document(
        &join, RESULTS_OPENAI,
        "{\"path\":\"a/b.txt\",\"first_line\":4,\"parts\":2,\"parts_completed\":2,"
        "\"status\":\"completed\",\"text\":\"one\\n\\ntwo\",\"responses\":[" LINE(
            "4", TEXT("one")) "," LINE("5", TEXT("two")) "],"
                                                         "\"usage\":{\"input_tokens\":6,\"output_"
                                                         "tokens\":4,\"total_tokens\":10},"
                                                         "\"gpu_ns\":2000}\n");
    results_join_release(&join);
}

/* One part failed, another document is cut short by the end of what there is: it is not written. */
static void test_a_document_of_which_a_part_failed_is_partial(void **state)
{
    struct results_join join;

    (void)state;
    results_join_init(&join);
    assert_false(add_part(&join, 0, 3, row_of(0, TEXT("gone"))));
    assert_false(add_part(&join, 3, 2, failed_row(3, "{\"code\":\"e\",\"message\":\"m\"}")));
    assert_true(add_part(&join, 3, 2, row_of(4, TEXT("kept"))));
    assert_false(results_join_completed(&join));
    assert_document(&join, RESULTS_CSV,
                    "a/b.txt,3,2,1,partial,kept,e,m,6,4,2000,2026-01-31T23:59:59.123456Z\n");
    assert_true(add_part(&join, 5, 1, failed_row(5, "{\"code\":\"e\",\"message\":\"m\"}")));
    assert_document(&join, RESULTS_CSV,
                    "a/b.txt,5,1,0,failed,,e,m,3,2,1000,2026-01-31T23:59:59.123456Z\n");
    results_join_release(&join);
}

/* What is flushed can be read at once, also when it is compressed: a follower's reader waits for it. */
static void test_a_compressed_sink_is_readable_after_each_flush(void **state)
{
    char *file = NULL, back[64];
    size_t size = 0, flushed;
    FILE *out = open_memstream(&file, &size);
    ZSTD_DCtx *reader = ZSTD_createDCtx();
    ZSTD_outBuffer to = {back, sizeof(back), 0};
    ZSTD_inBuffer from;
    struct results_sink sink;

    (void)state;
    results_sink_init(&sink, out, true);
    buffer_add_text(&sink.lines, "first\n");
    assert_int_equal(results_sink_flush(&sink), ERR_OK);
    flushed = size;
    from = (ZSTD_inBuffer){file, flushed, 0};
    assert_false(ZSTD_isError(ZSTD_decompressStream(reader, &to, &from)));
    assert_int_equal(to.pos, strlen("first\n"));
    buffer_add_text(&sink.lines, "second\n");
    assert_int_equal(results_sink_finish(&sink), ERR_OK);
    from = (ZSTD_inBuffer){file, size, flushed};
    assert_int_equal(ZSTD_decompressStream(reader, &to, &from), 0);
    assert_memory_equal(back, "first\nsecond\n", to.pos);
    assert_int_equal(to.pos, strlen("first\nsecond\n"));
    ZSTD_freeDCtx(reader);
    results_sink_release(&sink);
    fclose(out);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_openai_line_keeps_the_body_as_it_is),
        cmocka_unit_test(test_a_table_has_the_text_of_each_kind_of_answer),
        cmocka_unit_test(test_an_error_that_was_answered_is_found_in_its_body),
        cmocka_unit_test(test_what_cannot_be_read_leaves_the_text_empty),
        cmocka_unit_test(test_a_formula_is_defused_and_a_number_is_not),
        cmocka_unit_test(test_parts_become_one_document),
        cmocka_unit_test(test_a_document_of_which_a_part_failed_is_partial),
        cmocka_unit_test(test_a_compressed_sink_is_readable_after_each_flush),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
