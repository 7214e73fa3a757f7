/* test_webhook_secret.c: texts of secrets, as Standard Webhooks writes them and as people mistype them. */
#include "config/webhook_secret.h"
#include "config/base64.h"
#include "config/json.h"
#include "config/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/heard.h"
#include "tests/unit/shared.h"

#define TWENTY_FOUR "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

/* RFC 8032, section 7.1, test 1. */
#define SEED   "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
#define PUBLIC "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"

static enum err parse(const char *text, struct webhook_secret *ret)
{
    return webhook_secret_parse((struct slice){text, strlen(text)}, ret);
}

static void add_key(struct buffer *text, const char *prefix, const char *hex)
{
    uint8_t bytes[128];
    size_t len = strlen(hex) / 2;

    assert_true(hex_decode((struct slice){hex, strlen(hex)}, bytes, len));
    buffer_clear(text);
    buffer_add_text(text, prefix);
    base64_add(text, bytes, len);
}

static void test_the_published_secrets_get_their_verdicts(void **state)
{
    struct buffer text = {0};
    struct arena arena = {0};
    struct webhook_secret secret;
    struct json *root, *row;
    unsigned seen = 0;

    (void)state;
    if (!shared_read(shared_path("webhooks/standard-webhooks-vectors.json"), &text))
        skip();
    assert_int_equal(json_parse(&arena, buffer_slice(&text), NULL, &root, NULL), ERR_OK);
    heard_start();
    json_each(row, json_get(root, "secrets"))
    {
        const struct json *valid = json_get(row, "valid");
        enum err err = webhook_secret_parse(json_get(row, "secret")->text, &secret);

        assert_int_equal(err == ERR_OK, valid->boolean);
        seen++;
    }
    heard_stop();
    assert_int_equal(seen, 3);
    arena_release(&arena);
    buffer_release(&text);
}

static void test_hmac_secrets_have_24_to_64_bytes(void **state)
{
    uint8_t bytes[80] = {1, 2, 3};
    struct webhook_secret secret;
    struct buffer text = {0};

    (void)state;
    heard_start();
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        buffer_clear(&text);
        buffer_add_text(&text, "whsec_");
        base64_add(&text, bytes, len);
        if (len < 24 || len > 64) {
            assert_int_equal(webhook_secret_parse(buffer_slice(&text), &secret), ERR_USAGE);
            continue;
        }
        assert_int_equal(webhook_secret_parse(buffer_slice(&text), &secret), ERR_OK);
        assert_int_equal(secret.kind, WEBHOOK_HMAC);
        assert_int_equal(secret.len, len);
        assert_memory_equal(secret.key, bytes, len);
    }
    heard_stop();
    buffer_release(&text);
}

static void test_blanks_around_it_and_no_prefix_are_fine(void **state)
{
    static const char *const good[] = {"whsec_" TWENTY_FOUR, TWENTY_FOUR, "whsec_" TWENTY_FOUR "\n",
                                       " \twhsec_" TWENTY_FOUR "\r\n"};
    struct webhook_secret first, secret;

    (void)state;
    assert_int_equal(parse(good[0], &first), ERR_OK);
    for (size_t i = 1; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(parse(good[i], &secret), ERR_OK);
        assert_int_equal(secret.len, 24);
        assert_memory_equal(secret.key, first.key, 24);
    }
}

/* A sentence, and nothing of the secret in it. */
static void test_what_is_no_secret_is_refused_without_being_shown(void **state)
{
    static const char *const bad[] = {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS=",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La LaSw",
                                      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_",
                                      "whsec_whsec_" TWENTY_FOUR,
                                      "WHSEC_" TWENTY_FOUR,
                                      "whsec-" TWENTY_FOUR,
                                      "whpk_" TWENTY_FOUR "AAAAAAAAAAA=",
                                      "whsk_" TWENTY_FOUR,
                                      "whsk_",
                                      "v1," TWENTY_FOUR,
                                      "\xc2\xa0whsec_" TWENTY_FOUR};
    struct webhook_secret secret = {.len = 99};

    (void)state;
    heard_start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *said;

        if (parse(bad[i], &secret) != ERR_USAGE)
            fail_msg("%s was accepted", bad[i]);
        said = heard();
        assert_non_null(strstr(said, "code=USAGE"));
        assert_null(strstr(said, "MfKQ9r8"));
    }
    assert_int_equal(webhook_secret_parse((struct slice){"whsec_" TWENTY_FOUR "\0", 39}, &secret),
                     ERR_USAGE);
    heard_stop();
    assert_int_equal(secret.len, 99);
}

static void test_ed25519_is_a_seed_with_or_without_its_public_key(void **state)
{
    struct buffer text = {0}, public = {0}, expected = {0};
    struct webhook_secret secret;

    (void)state;
    add_key(&expected, "whpk_", PUBLIC);
    for (int i = 0; i < 2; i++) {
        buffer_clear(&public);
        add_key(&text, "whsk_", i == 0 ? SEED : SEED PUBLIC);
        assert_int_equal(webhook_secret_parse(buffer_slice(&text), &secret), ERR_OK);
        assert_int_equal(secret.kind, WEBHOOK_ED25519);
        assert_int_equal(secret.len, 32);
        assert_int_equal(webhook_secret_public(&secret, &public), ERR_OK);
        assert_string_equal(public.data, expected.data);
    }
    heard_start();
    add_key(&text, "whsk_", SEED SEED);
    assert_int_equal(webhook_secret_parse(buffer_slice(&text), &secret), ERR_USAGE);
    assert_non_null(strstr(heard(), "halves"));
    assert_int_equal(parse("whsec_" TWENTY_FOUR, &secret), ERR_OK);
    assert_int_equal(webhook_secret_public(&secret, &public), ERR_USAGE);
    heard_stop();
    buffer_release(&text);
    buffer_release(&public);
    buffer_release(&expected);
}

static void test_new_secrets_can_be_read_and_differ(void **state)
{
    struct buffer one = {0}, two = {0};
    struct webhook_secret secret;

    (void)state;
    for (int kind = WEBHOOK_HMAC; kind <= WEBHOOK_ED25519; kind++) {
        assert_int_equal(webhook_secret_make((enum webhook_secret_kind)kind, &one), ERR_OK);
        assert_int_equal(webhook_secret_make((enum webhook_secret_kind)kind, &two), ERR_OK);
        assert_true(one.len <= WEBHOOK_SECRET_TEXT_MAX);
        assert_string_not_equal(one.data, two.data);
        assert_int_equal(webhook_secret_parse(buffer_slice(&one), &secret), ERR_OK);
        assert_int_equal(secret.kind, kind);
        assert_int_equal(secret.len, 32);
        buffer_wipe(&one);
        buffer_wipe(&two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_published_secrets_get_their_verdicts),
        cmocka_unit_test(test_hmac_secrets_have_24_to_64_bytes),
        cmocka_unit_test(test_blanks_around_it_and_no_prefix_are_fine),
        cmocka_unit_test(test_what_is_no_secret_is_refused_without_being_shown),
        cmocka_unit_test(test_ed25519_is_a_seed_with_or_without_its_public_key),
        cmocka_unit_test(test_new_secrets_can_be_read_and_differ),
    };

    return cmocka_run_group_tests_name("webhook_secret", tests, NULL, NULL);
}
