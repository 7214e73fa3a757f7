/* test_dead_letters.c: what a letter says, and which answers to it are for good. */
#include "consumer/dead_letters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>

/* A body that no message holds stays in the table; the letter is JSON all the same. */
static void test_a_body_too_large_is_left_out(void **state)
{
    static char large[1 << 20];
    struct dead_letter letter = {
        .line = 7, .custom_id = SLICE("a\"b"), .body = SLICE("{\"x\":1}"), .deaths = SLICE("[]")};
    struct buffer text = {0};

    (void)state;
    dead_letters_write(&letter, &text);
    assert_string_equal(text.data,
                        "{\"id\":\"batch_00000000000000000000000000000000/7\",\"job\":\"batch_"
                        "00000000000000000000000000000000\",\"line\":7,\"custom_id\":\"a\\\"b\","
                        "\"deaths\":[],\"body\":{\"x\":1}}");
    buffer_clear(&text);
    memset(large, ' ', sizeof large);
    letter.body = (struct slice){large, sizeof large};
    dead_letters_write(&letter, &text);
    assert_non_null(strstr(text.data, "\"body\":null}"));
    buffer_release(&text);
}

/*
 * The row of a request that was found guilty waits for its letter: for a broker that is away, and not
 * for a topic that nobody made, or into which this worker may not write.
 */
static void test_only_a_broker_that_is_away_is_waited_for(void **state)
{
    (void)state;
    assert_true(dead_letters_is_refusal(RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC));
    assert_true(dead_letters_is_refusal(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED));
    assert_true(dead_letters_is_refusal(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE));
    assert_false(dead_letters_is_refusal(RD_KAFKA_RESP_ERR__MSG_TIMED_OUT));
    assert_false(dead_letters_is_refusal(RD_KAFKA_RESP_ERR__TRANSPORT));
    assert_false(dead_letters_is_refusal(RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_too_large_is_left_out),
        cmocka_unit_test(test_only_a_broker_that_is_away_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
