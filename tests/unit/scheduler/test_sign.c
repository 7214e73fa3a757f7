/* test_sign.c: the published vectors, two secrets at once, and ed25519 as a receiver verifies it. */
#include "scheduler/sign.h"
#include "config/base64.h"
#include "config/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "tests/unit/shared.h"

#define VECTORS "webhooks/standard-webhooks-vectors.json"
#define SECRET  "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID      "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY    "{\"test\": 2432232314}"
#define AT_S    1614265330
#define SIGNED  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static struct webhook_secret parse(struct slice text)
{
    struct webhook_secret secret;

    assert_int_equal(webhook_secret_parse(text, &secret), ERR_OK);
    return secret;
}

static struct webhook_secret make(enum webhook_secret_kind kind)
{
    struct webhook_secret secret;
    struct buffer text = {0};

    assert_int_equal(webhook_secret_make(kind, &text), ERR_OK);
    secret = parse(buffer_slice(&text));
    buffer_wipe(&text);
    return secret;
}

static struct json *vectors_or_skip(const char *part, struct arena *arena, struct buffer *text)
{
    struct json *root;

    if (!shared_read(shared_path(VECTORS), text))
        skip();
    assert_int_equal(json_parse(arena, buffer_slice(text), NULL, &root, NULL), ERR_OK);
    return json_get(root, part);
}

static void test_the_published_signatures_are_made(void **state)
{
    struct buffer text = {0}, header = {0};
    struct arena arena = {0};
    struct json *vectors = vectors_or_skip("sign", &arena, &text), *row;
    unsigned seen = 0;

    (void)state;
    json_each(row, vectors)
    {
        struct webhook_secret secret = parse(json_get(row, "secret")->text);
        int64_t at_s;

        assert_true(json_i64(json_get(row, "timestamp"), &at_s));
        buffer_clear(&header);
        assert_int_equal(sign_delivery(&secret, 1, json_get(row, "id")->text, at_s,
                                       json_get(row, "payload")->text, &header),
                         ERR_OK);
        assert_true(json_equals(json_get(row, "expected"), header.data));
        seen++;
    }
    assert_int_equal(seen, 1);
    buffer_release(&header);
    buffer_release(&text);
    arena_release(&arena);
}

static void test_the_published_headers_get_their_verdicts(void **state)
{
    struct buffer text = {0};
    struct arena arena = {0};
    struct json *vectors = vectors_or_skip("verify", &arena, &text), *row;
    unsigned seen = 0;

    (void)state;
    json_each(row, vectors)
    {
        struct webhook_secret secret = parse(json_get(row, "secret")->text);
        int64_t at_s;

        assert_true(json_i64(json_get(row, "timestamp"), &at_s));
        assert_int_equal(sign_matches(&secret, json_get(row, "id")->text, at_s,
                                      json_get(row, "payload")->text,
                                      json_get(row, "header")->text),
                         json_get(row, "valid")->boolean);
        seen++;
    }
    assert_int_equal(seen, 3);
    buffer_release(&text);
    arena_release(&arena);
}

/* The same vector without the file, so that a tree alone knows when it signs wrongly. */
static void test_the_vector_of_the_standard(void **state)
{
    struct webhook_secret secret = parse(SLICE(SECRET));
    struct buffer header = {0};

    (void)state;
    assert_int_equal(sign_delivery(&secret, 1, SLICE(ID), AT_S, SLICE(BODY), &header), ERR_OK);
    assert_string_equal(header.data, SIGNED);
    buffer_release(&header);
}

/* During a rotation a receiver with the old secret and one with the new both find theirs. */
static void test_two_secrets_make_two_signatures_in_order(void **state)
{
    struct webhook_secret secret[3] = {make(WEBHOOK_HMAC), parse(SLICE(SECRET)),
                                       make(WEBHOOK_HMAC)};
    struct buffer header = {0};

    (void)state;
    assert_int_equal(sign_delivery(secret, 2, SLICE(ID), AT_S, SLICE(BODY), &header), ERR_OK);
    assert_string_equal(strchr(header.data, ' ') + 1, SIGNED);
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            sign_matches(&secret[i], SLICE(ID), AT_S, SLICE(BODY), buffer_slice(&header)), i < 2);
    buffer_release(&header);
}

static void test_a_change_of_any_part_is_noticed(void **state)
{
    struct webhook_secret secret = parse(SLICE(SECRET));
    static const char *const bad[] = {
        "",
        "v1",
        "v1,",
        "v1,=",
        "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1,G0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=x",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1A==",
    };

    (void)state;
    assert_true(sign_matches(&secret, SLICE(ID), AT_S, SLICE(BODY), SLICE("  " SIGNED "  ")));
    assert_false(sign_matches(&secret, SLICE("msg_other"), AT_S, SLICE(BODY), SLICE(SIGNED)));
    assert_false(sign_matches(&secret, SLICE(ID), AT_S + 1, SLICE(BODY), SLICE(SIGNED)));
    assert_false(sign_matches(&secret, SLICE(ID), AT_S, SLICE(BODY " "), SLICE(SIGNED)));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(sign_matches(&secret, SLICE(ID), AT_S, SLICE(BODY),
                                  (struct slice){bad[i], strlen(bad[i])}));
}

static bool verifies(const struct webhook_secret *secret, const char *header, const char *text)
{
    struct buffer public = {0};
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    uint8_t key[32], signature[64];
    EVP_PKEY *pkey;
    size_t len;
    bool good;

    assert_int_equal(webhook_secret_public(secret, &public), ERR_OK);
    assert_true(base64_decode((struct slice){public.data + 5, public.len - 5}, key, 32, &len));
    assert_memory_equal(header, "v1a,", 4);
    assert_true(base64_decode((struct slice){header + 4, strlen(header + 4)}, signature, 64, &len));
    assert_int_equal(len, 64);
    pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32);
    assert_int_equal(EVP_DigestVerifyInit(context, NULL, NULL, NULL, pkey), 1);
    good = EVP_DigestVerify(context, signature, 64, (const uint8_t *)text, strlen(text)) == 1;
    EVP_PKEY_free(pkey);
    EVP_MD_CTX_free(context);
    buffer_release(&public);
    return good;
}

static void test_ed25519_verifies_with_the_public_key(void **state)
{
    struct webhook_secret secret = make(WEBHOOK_ED25519), other = make(WEBHOOK_ED25519);
    struct buffer header = {0};

    (void)state;
    assert_int_equal(sign_delivery(&secret, 1, SLICE(ID), AT_S, SLICE(BODY), &header), ERR_OK);
    assert_true(verifies(&secret, header.data, ID ".1614265330." BODY));
    assert_false(verifies(&secret, header.data, ID ".1614265331." BODY));
    assert_false(verifies(&other, header.data, ID ".1614265330." BODY));
    assert_false(sign_matches(&secret, SLICE(ID), AT_S, SLICE(BODY), buffer_slice(&header)));
    buffer_release(&header);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_published_signatures_are_made),
        cmocka_unit_test(test_the_published_headers_get_their_verdicts),
        cmocka_unit_test(test_the_vector_of_the_standard),
        cmocka_unit_test(test_two_secrets_make_two_signatures_in_order),
        cmocka_unit_test(test_a_change_of_any_part_is_noticed),
        cmocka_unit_test(test_ed25519_verifies_with_the_public_key),
    };

    return cmocka_run_group_tests_name("sign", tests, NULL, NULL);
}
