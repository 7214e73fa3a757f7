/* test_chunk.c: how a job is cut, and that the second reading finds the bytes of the first. */
#include "producer/chunk.h"
#include "producer/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_a_chunk_has_a_quarter_of_a_partitions_share(void **state)
{
    (void)state;
    assert_int_equal(chunk_cut_lines(1, 32, 16, 1024), 16);
    assert_int_equal(chunk_cut_lines(12800, 32, 16, 1024), 100);
    assert_int_equal(chunk_cut_lines(20000000, 32, 16, 1024), 1024);
    assert_int_equal(chunk_cut_lines(20000000, 32, 16, 10), 10);
    assert_int_equal(chunk_cut_lines(0, 10000, 1, 1024), 1);
}

/* Any lengths: no chunk is over a limit unless it is one line, and none could have taken more. */
static void test_chunks_are_as_large_as_they_may_be(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (int round = 0; round < 50; round++) {
        struct chunk_cut cut = {.lines_max = 1 + (uint32_t)round % 20, .bytes_max = 1000};
        uint64_t bytes = 0;
        uint32_t lines = 0;

        for (int i = 0; i < 500; i++) {
            uint64_t next;
            bool begins;

            random = random * 1664525 + 1013904223;
            next = (random >> 12) % (i % 5 == 0 ? 3000 : 300);
            begins = chunk_cut_next(&cut, next);
            assert_int_equal(begins,
                             lines == 0 || lines == cut.lines_max || bytes + next > cut.bytes_max);
            if (begins)
                lines = 0, bytes = 0;
            lines++;
            bytes += next;
            assert_true(lines <= cut.lines_max && (bytes <= cut.bytes_max || lines == 1));
        }
    }
}

struct fixture {
    char path[64];
    struct buffer text;
    struct input *input;
    struct scan scan;
    struct buffer blobs; /* bodies that were stored aside */
};

static enum err put_blob_cb(void *data, const uint8_t sha256[32], struct slice body)
{
    struct fixture *fixture = data;

    (void)sha256;
    buffer_add(&fixture->blobs, body.data, body.len);
    return ERR_OK;
}

/* Lines of many lengths, a bad one now and then, escapes in some ids. */
static int make(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct scan_options options = {.line_bytes_max = 1 << 20, .spool_dir = "/tmp"};
    uint32_t random = 3;
    FILE *out;

    strcpy(fixture->path, "/tmp/mserve-test-chunk-XXXXXX");
    out = fdopen(mkstemp(fixture->path), "wb");
    for (int i = 0; i < 9000; i++) {
        random = random * 1664525 + 1013904223;
        if (i % 97 == 5)
            buffer_add_text(&fixture->text, "\n");
        if (i % 101 == 7)
            buffer_printf(&fixture->text, "{\"custom_id\":\"id-%d\",\"method\":\"PUT\"}\n", i);
        else
            buffer_printf(
                &fixture->text,
                "{\"custom_id\":\"id%s%d\",\"method\":\"POST\",\"url\":\"/v1/completions\","
                "\"body\":{\"model\":\"m\",\"prompt\":\"%0*d\"}}\n",
                i % 3 == 0 ? "\\u002d" : "-", i, (int)((random >> 16) % 700), i);
    }
    fwrite(fixture->text.data, 1, fixture->text.len, out);
    fclose(out);
    assert_int_equal(input_open(fixture->path, &fixture->input), ERR_OK);
    assert_int_equal(scan_run(fixture->input, &options, &fixture->scan), ERR_OK);
    *state = fixture;
    return 0;
}

static int unmake(void **state)
{
    struct fixture *fixture = *state;

    scan_release(&fixture->scan);
    input_close(fixture->input);
    unlink(fixture->path);
    buffer_release(&fixture->text);
    buffer_release(&fixture->blobs);
    free(fixture);
    return 0;
}

static struct chunk_reader *open_reader(struct fixture *fixture, uint32_t lines_max,
                                        uint32_t bytes_max, uint64_t inline_max)
{
    struct chunk_reader_options options = {.input = fixture->input,
                                           .index = fixture->scan.index,
                                           .lines_max = lines_max,
                                           .bytes_max = bytes_max,
                                           .inline_bytes_max = inline_max,
                                           .put_blob_cb = put_blob_cb,
                                           .data = fixture};

    return chunk_reader_new(&options);
}

/* Checks one message against what the generator wrote for that request. */
static void check_message(const struct chunk *chunk, uint32_t i)
{
    struct message message = {0};
    uint64_t request = chunk->first_line + i;
    char id[32];

    chunk_message(chunk, i, &message);
    snprintf(id, sizeof(id), "id-%u", (unsigned)request);
    assert_int_equal(message.line, request);
    assert_int_equal(message.chunk, chunk->number);
    assert_int_equal(message.custom_id.len, strlen(id));
    assert_memory_equal(message.custom_id.data, id, strlen(id));
    if (request % 101 == 7) {
        assert_int_equal(message.body.len, 0);
        char begin[80];
        int len = snprintf(begin, sizeof(begin),
                           "{\"code\":\"invalid_method\",\"message\":\"line %u: `method`",
                           (unsigned)(request + 1 + (request + 92) / 97)); /* and blank lines */

        assert_int_equal(strncmp(message.error.data, begin, (size_t)len), 0);
        assert_int_equal(message.error.data[message.error.len - 1], '}');
        return;
    }
    assert_int_equal(message.error.len, 0);
    if (message.has_blob) {
        assert_int_equal(message.body.len, 0);
        return;
    }
    assert_memory_equal(message.body.data, "{\"model\":\"m\",\"prompt\":\"", 23);
    assert_memory_equal(message.body.data + message.body.len - 2, "\"}", 2);
}

/* All requests once and in order, whatever the limits; the values are the bodies and newlines. */
static void test_every_request_is_in_one_chunk(void **state)
{
    struct fixture *fixture = *state;
    struct chunk *chunk = calloc(1, sizeof(*chunk));

    for (uint32_t lines_max = 16; lines_max <= 1024; lines_max *= 4) {
        struct chunk_reader *reader = open_reader(fixture, lines_max, 100000, 600);
        uint64_t requests = 0;
        uint32_t chunks = 0;

        while (chunk_reader_next(reader, chunk) == ERR_OK) {
            uint64_t bytes = 0;

            assert_int_equal(chunk->number, chunks++);
            assert_int_equal(chunk->first_line, requests);
            assert_true(chunk->lines >= 1 && chunk->lines <= lines_max);
            assert_int_equal(chunk_reader_load(reader, chunk), ERR_OK);
            for (uint32_t i = 0; i < chunk->lines; i++) {
                check_message(chunk, i);
                bytes += chunk->line[i].body_len;
            }
            assert_int_equal(chunk->bytes, bytes);
            assert_int_equal(chunk->values.len, bytes + chunk->lines);
            requests += chunk->lines;
        }
        assert_int_equal(requests, 9000);
        chunk_reader_free(reader);
    }
    assert_true(fixture->blobs.len > 600);
    chunk_release(chunk);
    free(chunk);
}

/* A resumed upload loads some chunks and passes over others: the cuts stay where they were. */
static void test_passing_over_chunks_does_not_move_the_cuts(void **state)
{
    struct fixture *fixture = *state;
    struct chunk_reader *all = open_reader(fixture, 50, 20000, 1 << 20);
    struct chunk_reader *some = open_reader(fixture, 50, 20000, 100);
    struct chunk *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
    uint32_t chunks = 0;

    while (chunk_reader_next(all, a) == ERR_OK) {
        assert_int_equal(chunk_reader_load(all, a), ERR_OK);
        assert_int_equal(chunk_reader_next(some, b), ERR_OK);
        assert_int_equal(a->first_line, b->first_line);
        assert_int_equal(a->lines, b->lines);
        if (chunks++ % 3 != 1)
            continue;
        assert_int_equal(chunk_reader_load(some, b), ERR_OK);
        assert_int_equal(a->work, b->work);
        check_message(b, 0);
    }
    assert_int_equal(chunk_reader_next(some, b), ERR_NOT_FOUND);
    assert_true(chunks > 180);
    chunk_reader_free(all);
    chunk_reader_free(some);
    chunk_release(a);
    chunk_release(b);
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chunk_has_a_quarter_of_a_partitions_share),
        cmocka_unit_test(test_chunks_are_as_large_as_they_may_be),
        cmocka_unit_test(test_every_request_is_in_one_chunk),
        cmocka_unit_test(test_passing_over_chunks_does_not_move_the_cuts),
    };

    return cmocka_run_group_tests(tests, make, unmake);
}
