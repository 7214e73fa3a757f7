/*
 * test_checkpoint.c: what was written is read back; whatever else the bytes are is refused, and no
 * byte behind their end is looked at (each state lies in memory of exactly its size).
 */
#include "consumer/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/sha256.h"
#include "tests/unit/consumer/made.h"

enum { TOKENS_MAX = 300 };

static uint64_t random_state;

static uint32_t random_u32(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

static void random_bytes(uint8_t *ret, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ret[i] = (uint8_t)random_u32();
}

static uint32_t tokens[TOKENS_MAX];
static float logprobs[TOKENS_MAX];

/* A checkpoint of line 7 whose arrays are the ones above. */
static struct checkpoint make(uint64_t seed, uint32_t len, bool with_logprobs)
{
    struct checkpoint made = {
        .job = made_uuid(1),
        .line = 7,
        .epoch = 3,
        .attempt = 2,
        .seed = seed,
        .numerics_changed = seed % 2,
        .ran_ns = seed * 1000003,
        .tokens = tokens,
        .tokens_len = len,
        .logprobs = with_logprobs ? logprobs : NULL,
    };

    random_state = seed * 2654435761u + 1;
    random_bytes(made.prompt, sizeof made.prompt);
    random_bytes(made.model, sizeof made.model);
    random_bytes(made.numerics, sizeof made.numerics);
    for (uint32_t i = 0; i < len; i++) {
        tokens[i] = random_u32() >> random_u32() % 32; /* all lengths of varints */
        logprobs[i] = -(float)(random_u32() % 1000) / 7;
    }
    return made;
}

/* The result for a copy of exactly these bytes. */
static enum err decode(const char *data, size_t len, struct arena *arena, struct checkpoint *ret)
{
    char *copy = malloc(len > 0 ? len : 1);
    const char *why = NULL;
    enum err err;

    assert_non_null(copy);
    memcpy(copy, data, len);
    err = checkpoint_decode((struct slice){copy, len}, arena, ret, &why);
    assert_int_equal(err != ERR_OK, why != NULL);
    free(copy);
    return err;
}

static void assert_same(const struct checkpoint *got, const struct checkpoint *made)
{
    assert_true(uuid_equal(got->job, made->job));
    assert_int_equal(got->line, made->line);
    assert_int_equal(got->epoch, made->epoch);
    assert_int_equal(got->attempt, made->attempt);
    assert_int_equal(got->seed, made->seed);
    assert_int_equal(got->numerics_changed, made->numerics_changed);
    assert_int_equal(got->ran_ns, made->ran_ns);
    assert_memory_equal(got->prompt, made->prompt, sizeof got->prompt);
    assert_memory_equal(got->model, made->model, sizeof got->model);
    assert_memory_equal(got->numerics, made->numerics, sizeof got->numerics);
    assert_int_equal(got->tokens_len, made->tokens_len);
    assert_memory_equal(got->tokens, made->tokens, made->tokens_len * sizeof(uint32_t));
    assert_int_equal(got->logprobs != NULL, made->logprobs != NULL);
    if (made->logprobs)
        assert_memory_equal(got->logprobs, made->logprobs, made->tokens_len * sizeof(float));
}

static void test_what_was_written_is_read_back(void **state)
{
    struct buffer bytes = {0};
    struct arena arena = {0};

    (void)state;
    for (uint32_t seed = 1; seed <= 500; seed++) {
        struct checkpoint made = make(seed, 1 + seed * 7 % TOKENS_MAX, seed % 3 == 0);
        struct checkpoint got;

        buffer_clear(&bytes);
        arena_clear(&arena);
        checkpoint_encode(&made, &bytes);
        assert_int_equal(decode(bytes.data, bytes.len, &arena, &got), ERR_OK);
        assert_same(&got, &made);
    }
    buffer_release(&bytes);
    arena_release(&arena);
}

/* A vocabulary of 128 thousand fits three bytes an id, one of 32 thousand nearly always too. */
static void test_ids_take_three_bytes_at_most(void **state)
{
    struct buffer bytes = {0};
    struct checkpoint made = make(1, TOKENS_MAX, false);

    (void)state;
    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        tokens[i] = 128255;
    checkpoint_encode(&made, &bytes);
    assert_int_equal(bytes.len, CHECKPOINT_HEAD_BYTES + 3 * TOKENS_MAX);
    buffer_release(&bytes);
}

/* Each bit of each byte. */
static void test_a_flipped_bit_is_noticed(void **state)
{
    struct buffer bytes = {0};
    struct arena arena = {0};

    (void)state;
    for (unsigned with_logprobs = 0; with_logprobs < 2; with_logprobs++) {
        struct checkpoint made = make(1 + with_logprobs, 40, with_logprobs);

        buffer_clear(&bytes);
        checkpoint_encode(&made, &bytes);
        for (size_t bit = 0; bit < 8 * bytes.len; bit++) {
            struct checkpoint got;

            arena_clear(&arena);
            bytes.data[bit / 8] ^= (char)(1 << bit % 8);
            assert_int_equal(decode(bytes.data, bytes.len, &arena, &got), ERR_INPUT);
            bytes.data[bit / 8] ^= (char)(1 << bit % 8);
        }
    }
    buffer_release(&bytes);
    arena_release(&arena);
}

static void test_one_that_was_cut_short_or_grew_is_noticed(void **state)
{
    struct checkpoint made = make(3, 100, true);
    struct buffer bytes = {0};
    struct arena arena = {0};
    struct checkpoint got;
    size_t len;

    (void)state;
    checkpoint_encode(&made, &bytes);
    len = bytes.len;
    for (size_t cut = 0; cut < len; cut++) {
        arena_clear(&arena);
        assert_int_equal(decode(bytes.data, cut, &arena, &got), ERR_INPUT);
    }
    buffer_add(&bytes, "\0\0\0", 3);
    for (size_t more = 1; more <= 3; more++)
        assert_int_equal(decode(bytes.data, len + more, &arena, &got), ERR_INPUT);
    buffer_release(&bytes);
    arena_release(&arena);
}

/* Changes two bytes and makes the checksum right again, as no accident would. */
static void forge(struct buffer *bytes, size_t at, unsigned value)
{
    uint8_t digest[32];
    struct buffer rest = {0};

    bytes->data[at] = (char)value;
    bytes->data[at + 1] = (char)(value >> 8);
    buffer_add(&rest, bytes->data, 8);
    buffer_add(&rest, bytes->data + 24, bytes->len - 24);
    sha256_of(buffer_slice(&rest), digest);
    memcpy(bytes->data + 8, digest, 16);
    buffer_release(&rest);
}

/* An older or a newer program's is refused by its version, not by luck; so is one with more in it. */
static void test_another_version_is_refused_whatever_its_sum_says(void **state)
{
    static const struct {
        size_t at;
        unsigned value;
        const char *why;
    } change[] = {
        {4, 0, "it is of another version"},
        {4, 2, "it is of another version"},
        {6, 4, "its parts do not fit one another"},       /* a flag that nobody knows */
        {6, 1, "its parts do not fit one another"},       /* log-probabilities that are not there */
        {56, 0, "its parts do not fit one another"},      /* attempt 0 */
        {60, 0, "its parts do not fit one another"},      /* no token */
        {60, 6, "its parts do not fit one another"},      /* one more than there are */
        {62, 0xffff, "its parts do not fit one another"}, /* four thousand million */
        {155, 0x0080, "its parts do not fit one another"}, /* an id longer than it has to be */
    };
    struct arena arena = {0};

    (void)state;
    for (size_t i = 0; i < sizeof change / sizeof change[0]; i++) {
        struct checkpoint made = make(2, 5, false);
        struct buffer bytes = {0};
        struct checkpoint got;
        const char *why = NULL;

        for (uint32_t id = 0; id < 5; id++)
            tokens[id] = 1;
        checkpoint_encode(&made, &bytes);
        forge(&bytes, change[i].at, change[i].value);
        assert_int_equal(checkpoint_decode(buffer_slice(&bytes), &arena, &got, &why), ERR_INPUT);
        assert_string_equal(why, change[i].why);
        buffer_release(&bytes);
    }
    arena_release(&arena);
}

static struct checkpoint_wanted wanted_by(const struct checkpoint *made)
{
    struct checkpoint_wanted wanted = {
        .job = made->job,
        .line = made->line,
        .epoch = made->epoch + 1,
        .attempt = made->attempt,
        .tokens = made->tokens_len,
        .seed = made->seed,
        .model = made->model,
        .tokens_max = made->tokens_len,
        .vocab = UINT32_MAX,
        .logprobs = made->logprobs != NULL,
    };

    memcpy(wanted.prompt, made->prompt, sizeof wanted.prompt);
    return wanted;
}

/* A sound one in another's place is as bad as a damaged one. */
static void test_only_the_request_that_it_is_of_may_go_on_from_it(void **state)
{
    struct checkpoint made = make(5, 9, false);
    struct checkpoint_wanted wanted = wanted_by(&made);
    uint8_t other[CHECKPOINT_ID_BYTES] = {0};

    (void)state;
    assert_null(checkpoint_hindrance(&made, &wanted));
    wanted.epoch = made.epoch;
    assert_null(checkpoint_hindrance(&made, &wanted));

#define REFUSED(change, why)                                                                       \
    do {                                                                                           \
        wanted = wanted_by(&made);                                                                 \
        change;                                                                                    \
        assert_string_equal(checkpoint_hindrance(&made, &wanted), why);                            \
    } while (0)
    REFUSED(wanted.line++, "it is another request's");
    REFUSED(wanted.job = made_uuid(2), "it is another request's");
    REFUSED(wanted.epoch = made.epoch - 1, "it comes from a later epoch of the partition");
    REFUSED(wanted.attempt++, "it is not the one that its row tells of");
    REFUSED(wanted.tokens--, "it is not the one that its row tells of");
    REFUSED(wanted.model = other, "it was generated by another model");
    REFUSED(wanted.prompt[0] ^= 1, "it went on from another prompt");
    REFUSED(wanted.seed++, "it was generated with other parameters");
    REFUSED(wanted.tokens_max--, "it was generated with other parameters");
    REFUSED(wanted.vocab = tokens[0], "it holds a token that the model does not have");
    REFUSED(wanted.logprobs = true, "its log-probabilities are not what is asked for");
#undef REFUSED
}

static void test_prompts_have_keys_of_their_own(void **state)
{
    const uint32_t prompt[3] = {1, 2, 3};
    uint8_t all[CHECKPOINT_KEY_BYTES], two[CHECKPOINT_KEY_BYTES], again[CHECKPOINT_KEY_BYTES];

    (void)state;
    checkpoint_prompt_key(prompt, 3, all);
    checkpoint_prompt_key(prompt, 2, two);
    checkpoint_prompt_key(prompt, 3, again);
    assert_memory_equal(all, again, sizeof all);
    assert_memory_not_equal(all, two, sizeof all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_written_is_read_back),
        cmocka_unit_test(test_ids_take_three_bytes_at_most),
        cmocka_unit_test(test_a_flipped_bit_is_noticed),
        cmocka_unit_test(test_one_that_was_cut_short_or_grew_is_noticed),
        cmocka_unit_test(test_another_version_is_refused_whatever_its_sum_says),
        cmocka_unit_test(test_only_the_request_that_it_is_of_may_go_on_from_it),
        cmocka_unit_test(test_prompts_have_keys_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
