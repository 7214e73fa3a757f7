/*
 * test_source.c: a partition read from a log and a store that are made here, with a clock that is an
 * argument: what becomes of lines that are damaged, gone, or do not come.
 *
 * This program has its own log_reader_*, store_* and the two calls of librdkafka that touch messages,
 * so neither Kafka nor PostgreSQL is asked anything.
 */
#include "consumer/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/clock.h"
#include "consumer/task.h"
#include "producer/message.h"
#include "tests/unit/consumer/made.h"

enum { LINES = 4, LOG_MAX = 16, BODY = 1, BLOB, GARBAGE, HOLE };

/* ------------------------------------------------------------------------------ the log made ---- */

/* What lies at each offset: a line's message with its body or a blob, one of no use, or a hole. */
static struct {
    int kind;
    uint32_t line;
} the_log[LOG_MAX];

static const char *body_text; /* of every body */

static struct {
    int64_t position;
    int64_t last;
    bool mute;      /* gives nothing */
    enum err check; /* what it says when it is asked, */
    enum err begin; /* and when a range is begun */
    unsigned begun;
    unsigned dropped;
} reader;

struct made_message {
    rd_kafka_message_t raw; /* first */
    rd_kafka_headers_t *headers;
};

static rd_kafka_message_t *message_at(int64_t offset)
{
    struct made_message *made = xcalloc(1, sizeof *made);
    struct message message = {.line = the_log[offset].line,
                              .custom_id = SLICE("name"),
                              .tenant = SLICE("default"),
                              .has_blob = the_log[offset].kind == BLOB};

    memcpy(message.job, made_uuid(1).bytes, sizeof message.job);
    message.blob[0] = (uint8_t)the_log[offset].line;
    if (the_log[offset].kind != GARBAGE)
        message_encode(&message, &made->headers);
    if (the_log[offset].kind == BODY) {
        made->raw.payload = (void *)(uintptr_t)body_text;
        made->raw.len = strlen(body_text);
    }
    return &made->raw;
}

rd_kafka_resp_err_t rd_kafka_message_headers(const rd_kafka_message_t *message,
                                             rd_kafka_headers_t **ret)
{
    *ret = ((const struct made_message *)message)->headers;
    return *ret ? RD_KAFKA_RESP_ERR_NO_ERROR : RD_KAFKA_RESP_ERR__NOENT;
}

void rd_kafka_message_destroy(rd_kafka_message_t *message)
{
    struct made_message *made = (struct made_message *)message;

    if (made->headers)
        rd_kafka_headers_destroy(made->headers);
    free(made);
}

enum err log_reader_begin(struct log_reader *unused, int32_t part, int64_t first, int64_t last)
{
    (void)unused;
    (void)part;
    reader.begun++;
    reader.position = first;
    reader.last = last;
    return reader.begin;
}

enum err log_reader_read(struct log_reader *unused, int32_t part, rd_kafka_message_t **message,
                         size_t max, struct log_reader_got *ret)
{
    (void)unused;
    (void)part;
    *ret = (struct log_reader_got){0};
    while (!reader.mute && reader.position <= reader.last && ret->count < max) {
        if (the_log[reader.position].kind == HOLE)
            ret->unreadable++;
        else
            message[ret->count++] = message_at(reader.position);
        reader.position++;
    }
    ret->end = reader.position > reader.last;
    return ERR_OK;
}

enum err log_reader_check(struct log_reader *unused, int32_t part)
{
    (void)unused;
    (void)part;
    return reader.check;
}

void log_reader_drop(struct log_reader *unused, int32_t part)
{
    (void)unused;
    (void)part;
    reader.dropped++;
    reader.mute = false;
}

/* ---------------------------------------------------------------------------- the store made ---- */

static enum err body_err;  /* of every body */
static enum err names_err; /* of the index */

struct store *store_new(const struct settings *settings)
{
    (void)settings;
    return NULL;
}

void store_free(struct store *store)
{
    (void)store;
}

enum err store_body(struct store *store, const struct uuid *job, const uint8_t sha256[32],
                    struct arena *arena, struct slice *ret)
{
    (void)store;
    (void)job;
    (void)sha256;
    (void)arena;
    (void)ret;
    return body_err;
}

enum err store_custom_ids(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                          struct slice *ret)
{
    (void)store;
    for (uint32_t i = 0; i < chunk->lines; i++) {
        char *name = arena_alloc(arena, 32);

        snprintf(name, 32, "index-%u", i);
        ret[i] = TEXT(name);
    }
    return names_err;
}

/* What an earlier attempt left of each line; a state without bytes: nothing. */
static struct {
    struct buffer state[LINES];
    enum err err;
    unsigned asked;
} left;

enum err store_checkpoints(struct store *store, const struct claim_chunk *chunk,
                           struct arena *arena, struct checkpoint_row **ret, uint32_t *ret_count)
{
    struct checkpoint_row *row = arena_zalloc(arena, chunk->lines, sizeof *row);
    uint32_t count = 0;

    (void)store;
    left.asked++;
    for (uint32_t i = 0; i < chunk->lines; i++) {
        struct buffer *bytes = &left.state[i];

        if (bytes->len > 0)
            row[count++] = (struct checkpoint_row){
                .line = i,
                .attempt = 2,
                .tokens = 2,
                .state = {arena_copy(arena, bytes->data, bytes->len), bytes->len}};
    }
    *ret = row;
    *ret_count = count;
    return left.err;
}

static struct quarantine_line *suspects; /* what is known of lines */
static uint32_t suspects_count;
static enum err suspects_err;
static enum err letter_err; /* of every dead letter */
static unsigned letters;

enum err store_suspects(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                        struct quarantine_line **ret, uint32_t *ret_count)
{
    (void)store;
    (void)chunk;
    (void)arena;
    *ret = suspects;
    *ret_count = suspects_err ? 0 : suspects_count;
    return suspects_err;
}

enum err store_dead_letter(struct store *store, const struct claim_chunk *chunk, uint32_t index,
                           struct slice custom_id, struct slice body, struct arena *arena)
{
    (void)store;
    (void)chunk;
    (void)index;
    (void)custom_id;
    (void)arena;
    letters += body.len > 0;
    return letter_err;
}

/* --------------------------------------------------------------------------------- the bench ---- */

struct bench {
    struct made made;
    struct gauges gauges;
    struct tokenizer *tokenizer; /* bytes */
    struct source_tools tools;
    struct source *source;
    uint64_t now_ns;
    struct engine_model model;
    unsigned chunks_read;
};

static bool never(void *context)
{
    (void)context;
    return false;
}

static void on_chunk_read(void *context)
{
    ((struct bench *)context)->chunks_read++;
}

/* A chunk of four lines at the offsets 0 to 3, which lie there as they were sent. */
static void bench_open(struct bench *bench)
{
    struct prepare_options options = {.context_max = 64, .max_tokens_default = 4};

    *bench = (struct bench){.tokenizer = tokenizer_new_bytes(), .now_ns = CLOCK_NS_PER_S};
    memset(&reader, 0, sizeof reader);
    body_text = "{\"model\":\"m\",\"prompt\":\"p\",\"max_tokens\":1}";
    body_err = names_err = ERR_OK;
    left.err = ERR_OK;
    left.asked = 0;
    bench->model = (struct engine_model){.digest = {1}, .numerics = {2}, .vocab = 1000};
    made_open(&bench->made, 1, ENDPOINT_COMPLETIONS, LINES);
    bench->made.chunk->last_offset = LINES - 1;
    atomic_store(&bench->made.chunk->open_lines, LINES + 1);
    atomic_store(&bench->gauges.unread_lines, LINES);
    for (uint32_t i = 0; i < LINES; i++) {
        the_log[i].kind = BODY;
        the_log[i].line = i;
    }
    bench->tools = (struct source_tools){.gauges = &bench->gauges,
                                         .model = &bench->model,
                                         .requests_max = 100,
                                         .bytes_max = 1 << 20,
                                         .must_leave = never,
                                         .on_chunk_read = on_chunk_read,
                                         .context = bench};
    options.tokenizer = bench->tokenizer;
    prepare_init(&bench->tools.prepare, &options);
    bench->source = source_new(0);
    source_add(bench->source, bench->made.chunk);
}

static void bench_close(struct bench *bench)
{
    source_let_go(bench->source, &bench->tools);
    source_free(bench->source);
    for (uint32_t i = 0; i < LINES; i++)
        buffer_release(&left.state[i]);
    memset(&left, 0, sizeof left);
    prepare_release(&bench->tools.prepare);
    arena_release(&bench->tools.arena);
    tokenizer_free(bench->tokenizer);
    made_close(&bench->made);
}

/* Serves until there is nothing to do, and fills task[LINES] by line; how many there are. */
static uint32_t serve(struct bench *bench, struct task **task)
{
    uint32_t count = 0;
    struct mail *mail;

    memset(task, 0, LINES * sizeof *task);
    while (source_serve(bench->source, &bench->tools, bench->now_ns))
        ;
    while ((mail = mail_list_next(&bench->tools.made))) {
        assert_null(task[task_of(mail)->index]);
        task[task_of(mail)->index] = task_of(mail);
        count++;
    }
    return count;
}

static void free_all(struct task **task)
{
    for (uint32_t i = 0; i < LINES; i++)
        task_free(task[i]);
}

static void assert_unreadable(const struct task *task, const char *name)
{
    assert_int_equal(task->state, TASK_ENDED);
    assert_int_equal(task->status, TASK_FAILED);
    assert_string_equal(task->error.code, "request_unreadable");
    assert_int_equal(task->error.status_code, 0);
    assert_int_equal(task->custom_id.len, strlen(name));
    assert_memory_equal(task->custom_id.data, name, strlen(name));
}

/* ---------------------------------------------------------------------------------- the tests ---- */

/* A body that was put aside and cannot be had, now or ever: its line fails, the others run. */
static void test_a_damaged_body_fails_its_line(void **state)
{
    static const enum err why[] = {ERR_INPUT, ERR_NOT_FOUND};

    (void)state;
    for (size_t i = 0; i < sizeof why / sizeof why[0]; i++) {
        struct bench bench;
        struct task *task[LINES];

        bench_open(&bench);
        the_log[2].kind = BLOB;
        body_err = why[i];
        assert_int_equal(serve(&bench, task), LINES);
        assert_unreadable(task[2], "name");
        assert_int_equal(task[3]->state, TASK_READY);
        assert_int_equal(reader.begun, 1);
        assert_int_equal(bench.chunks_read, 1);
        assert_false(atomic_load(&bench.made.chunk->incomplete));
        free_all(task);
        bench_close(&bench);
    }
}

/* A database that refuses the question says nothing of the body: the line is looked for again. */
static void test_a_question_refused_fails_no_line(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    the_log[2].kind = BLOB;
    body_err = ERR_DENIED;
    assert_int_equal(serve(bench, task), LINES - 1);
    assert_null(task[2]);
    assert_true(atomic_load(&bench->made.chunk->incomplete));
    assert_false(atomic_load(&bench->made.chunk->missing));
    free_all(task);
}

/* Messages that are none, and offsets that cannot be read: these lines fail, under their names. */
static void test_lines_that_cannot_be_read_fail(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    the_log[0].kind = GARBAGE;
    the_log[3].kind = HOLE;
    assert_int_equal(serve(bench, task), LINES);
    assert_unreadable(task[0], "index-0");
    assert_unreadable(task[3], "index-3");
    assert_int_equal(task[1]->state, TASK_READY);
    assert_int_equal(reader.begun, 2);
    assert_int_equal(bench->chunks_read, 1);
    assert_false(atomic_load(&bench->made.chunk->incomplete));
    assert_int_equal(atomic_load(&bench->gauges.unread_lines), 0);
    free_all(task);
}

/* While the index cannot be asked for names, they wait; nothing is given up. */
static void test_names_are_waited_for(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    the_log[0].kind = GARBAGE;
    names_err = ERR_DATABASE;
    assert_int_equal(serve(bench, task), LINES - 1);
    free_all(task);
    assert_int_equal(bench->chunks_read, 0);
    names_err = ERR_OK;
    bench->now_ns += CLOCK_NS_PER_S;
    assert_int_equal(serve(bench, task), 1);
    assert_unreadable(task[0], "index-0");
    free_all(task);
}

/* One unreadable message, two lines missing: one of them is lost, and nobody knows which. */
static void test_lines_that_are_lost_are_set_aside(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    the_log[0].kind = GARBAGE;
    the_log[1].line = 2;
    assert_int_equal(serve(bench, task), 2);
    assert_null(task[0]);
    assert_null(task[1]);
    assert_true(atomic_load(&bench->made.chunk->incomplete));
    assert_true(atomic_load(&bench->made.chunk->missing));
    free_all(task);
}

/* A log that does not hold the range is asked once more after a while: if it still does not, the chunk
 * is missing, and if it does, nothing was the matter. */
static void test_a_range_that_is_gone_is_asked_for_twice(void **state)
{
    (void)state;
    for (int comes_back = 0; comes_back < 2; comes_back++) {
        struct bench bench;
        struct task *task[LINES];

        bench_open(&bench);
        reader.begin = ERR_NOT_FOUND;
        assert_int_equal(serve(&bench, task), 0);
        assert_int_equal(reader.begun, 1);
        assert_int_equal(bench.chunks_read, 0);
        if (comes_back)
            reader.begin = ERR_OK;
        bench.now_ns += CLOCK_NS_PER_S;
        assert_int_equal(serve(&bench, task), comes_back ? LINES : 0);
        assert_int_equal(reader.begun, 2);
        assert_int_equal(bench.chunks_read, 1);
        assert_int_equal(atomic_load(&bench.made.chunk->missing), !comes_back);
        free_all(task);
        bench_close(&bench);
    }
}

/* The log says that it holds the range, and nothing comes: it is begun anew, and then it comes. */
static void test_a_silent_reader_is_begun_anew(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    reader.mute = true;
    assert_int_equal(serve(bench, task), 0);
    reader.check = ERR_BROKER; /* a broker that does not answer is waited for */
    bench->now_ns += 11 * (uint64_t)CLOCK_NS_PER_S;
    assert_int_equal(serve(bench, task), 0);
    assert_int_equal(reader.dropped, 0);
    reader.check = ERR_OK;
    bench->now_ns += 11 * (uint64_t)CLOCK_NS_PER_S;
    assert_int_equal(serve(bench, task), LINES);
    assert_int_equal(reader.dropped, 1);
    assert_int_equal(reader.begun, 2);
    free_all(task);
}

/* Time in which nothing was read, because too much waits for the device, is no silence. */
static void test_a_full_device_is_no_silence(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    reader.mute = true;
    assert_int_equal(serve(bench, task), 0);
    bench->tools.requests_max = 0;
    bench->now_ns += 60 * (uint64_t)CLOCK_NS_PER_S;
    assert_int_equal(serve(bench, task), 0);
    bench->tools.requests_max = 100;
    assert_int_equal(serve(bench, task), 0);
    assert_int_equal(reader.dropped, 0);
}

/* -------------------------------------------------------------- what earlier attempts left ---- */

/* The second holder of the partition, and the tokens 7 and 8 saved of line `index` by the first. */
static struct checkpoint saved_of(struct bench *bench, uint32_t index)
{
    static const uint32_t tokens[] = {7, 8};
    struct checkpoint saved = {
        .job = made_uuid(1),
        .line = index,
        .epoch = 1,
        .attempt = 2,
        .seed = prepare_seed(made_uuid(1), index),
        .tokens = tokens,
        .tokens_len = 2,
    };
    struct tokens prompt = {0};

    assert_int_equal(tokenizer_encode(bench->tokenizer, TEXT("p"), true, 9, &prompt), ERR_OK);
    checkpoint_prompt_key(prompt.id, prompt.len, saved.prompt);
    free(prompt.id);
    memcpy(saved.model, bench->model.digest, sizeof saved.model);
    memcpy(saved.numerics, bench->model.numerics, sizeof saved.numerics);
    bench->made.partition->epoch = 2;
    return saved;
}

/* The request has four tokens to generate, so two are left. */
static void bench_open_wide(struct bench *bench)
{
    bench_open(bench);
    body_text = "{\"model\":\"m\",\"prompt\":\"p\",\"max_tokens\":4}";
}

static void test_a_request_goes_on_from_its_checkpoint(void **state)
{
    struct bench bench;
    struct task *task[LINES];
    struct checkpoint saved;

    (void)state;
    bench_open_wide(&bench);
    saved = saved_of(&bench, 1);
    checkpoint_encode(&saved, &left.state[1]);
    saved = saved_of(&bench, 3);
    saved.numerics[0] = 9;
    checkpoint_encode(&saved, &left.state[3]);
    assert_int_equal(serve(&bench, task), LINES);
    assert_int_equal(left.asked, 1);
    assert_int_equal(task[0]->resumed_len, 0);
    assert_int_equal(task[0]->attempt, 1);
    assert_int_equal(task[1]->resumed_len, 2);
    assert_int_equal(task[1]->resumed[1], 8);
    assert_int_equal(task[1]->attempt, 3);
    assert_int_equal(task[1]->saved_tokens, 2);
    assert_false(task[1]->numerics_changed);
    assert_int_equal(task[3]->resumed_len, 2);
    assert_true(task[3]->numerics_changed); /* goes on, and says so */
    free_all(task);
    bench_close(&bench);
}

/* Damaged, cut short, of another line, of another model: begun anew, under the next number. */
static void test_a_request_with_a_bad_checkpoint_begins_anew(void **state)
{
    struct bench bench;
    struct task *task[LINES];
    struct checkpoint saved;

    (void)state;
    bench_open_wide(&bench);
    for (uint32_t i = 0; i < LINES; i++) {
        saved = saved_of(&bench, i == 2 ? 0 : i);
        if (i == 3)
            saved.model[0] = 9;
        checkpoint_encode(&saved, &left.state[i]);
    }
    left.state[0].data[145] ^= 1;
    left.state[1].len--;
    assert_int_equal(serve(&bench, task), LINES);
    for (uint32_t i = 0; i < LINES; i++) {
        assert_int_equal(task[i]->state, TASK_READY);
        assert_true(task[i]->unusable);
        assert_int_equal(task[i]->attempt, 3);
        assert_int_equal(task[i]->resumed_len, 0);
        assert_int_equal(task[i]->saved_tokens, 0);
    }
    free_all(task);
    bench_close(&bench);
}

/* Without an answer nothing is begun: what was done already would be done again. */
static void test_checkpoints_are_waited_for(void **state)
{
    struct bench bench;
    struct task *task[LINES];
    struct checkpoint saved;

    (void)state;
    bench_open_wide(&bench);
    saved = saved_of(&bench, 1);
    checkpoint_encode(&saved, &left.state[1]);
    left.err = ERR_DATABASE;
    assert_int_equal(serve(&bench, task), 0);
    assert_int_equal(reader.begun, 0);
    left.err = ERR_OK;
    bench.now_ns += CLOCK_NS_PER_S;
    assert_int_equal(serve(&bench, task), LINES);
    assert_int_equal(task[1]->resumed_len, 2);
    assert_int_equal(left.asked, 2);
    free_all(task);
    bench_close(&bench);
}

/* Nobody held the partition before: the question is not asked. */
static void test_the_first_holder_asks_for_no_checkpoints(void **state)
{
    struct bench *bench = *state;
    struct task *task[LINES];

    assert_int_equal(serve(bench, task), LINES);
    assert_int_equal(left.asked, 0);
    free_all(task);
}

/* What killed every worker that ran it alone is told of, fails and does not run; another runs apart. */
static void test_suspects_are_judged_before_they_are_read(void **state)
{
    struct quarantine_line known[] = {{.line = 1, .evidence = {.cap = 1, .deaths_alone = 3}},
                                      {.line = 2, .evidence = {.cap = 4}}};
    struct task *task[LINES];
    struct bench *bench = *state;

    bench->made.chunk->suspect = true;
    bench->tools.limits = (struct quarantine_limits){3, 5, 3};
    suspects = known;
    suspects_count = 2;
    letters = 0;
    assert_int_equal(serve(bench, task), LINES);
    assert_int_equal(letters, 1);
    assert_string_equal(task[1]->error.code, "worker_crashed");
    assert_int_equal(task[2]->cap, 4);
    assert_int_equal(task[0]->cap, 0);
    free_all(task);
    suspects_count = 0;
}

/* A verdict that cannot be told now is none yet: its line is left for another reading. */
static void test_a_letter_that_cannot_be_sent_leaves_its_line(void **state)
{
    struct quarantine_line known[] = {{.line = 1, .evidence = {.cap = 1, .deaths_alone = 3}}};
    struct task *task[LINES];
    struct bench *bench = *state;

    bench->made.chunk->suspect = true;
    bench->tools.limits = (struct quarantine_limits){3, 5, 3};
    suspects = known;
    suspects_count = 1;
    letter_err = ERR_BROKER;
    serve(bench, task);
    assert_null(task[1]);
    assert_non_null(task[0]);
    free_all(task);
    suspects_count = 0;
    letter_err = ERR_OK;
}

static int set_up(void **state)
{
    static struct bench bench;

    bench_open(&bench);
    *state = &bench;
    return 0;
}

static int tear_down(void **state)
{
    bench_close(*state);
    return 0;
}

#define WITH_BENCH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_damaged_body_fails_its_line),
        WITH_BENCH(test_a_question_refused_fails_no_line),
        WITH_BENCH(test_lines_that_cannot_be_read_fail),
        WITH_BENCH(test_names_are_waited_for),
        WITH_BENCH(test_lines_that_are_lost_are_set_aside),
        cmocka_unit_test(test_a_range_that_is_gone_is_asked_for_twice),
        WITH_BENCH(test_a_silent_reader_is_begun_anew),
        WITH_BENCH(test_a_full_device_is_no_silence),
        cmocka_unit_test(test_a_request_goes_on_from_its_checkpoint),
        cmocka_unit_test(test_a_request_with_a_bad_checkpoint_begins_anew),
        cmocka_unit_test(test_checkpoints_are_waited_for),
        WITH_BENCH(test_the_first_holder_asks_for_no_checkpoints),
        WITH_BENCH(test_suspects_are_judged_before_they_are_read),
        WITH_BENCH(test_a_letter_that_cannot_be_sent_leaves_its_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
