/* test_chat.c: a conversation becomes the prompt that the format declares. */
#include "kernels/text/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/settings_table.h"

static const struct chat_message talk[] = {
    {{"system", 6}, {"Be brief.", 9}},
    {{"user", 4}, {"One\ntwo?", 8}},
    {{"assistant", 9}, {"", 0}},
    {{"user", 4}, {"Three.", 6}},
};

static void test_plain_is_role_colon_content(void **state)
{
    const struct chat_format *format = chat_format_find(SLICE("plain"));
    struct buffer text = {0};
    uint32_t bad;

    (void)state;
    assert_non_null(format);
    assert_string_equal(chat_format_name(format), "plain");
    assert_int_equal(chat_render(format, talk, 4, &text, &bad), ERR_OK);
    assert_string_equal(text.data, "system: Be brief.\nuser: One\ntwo?\nassistant: \nuser: Three.\n"
                                   "assistant:");
    buffer_release(&text);
}

/* A role that the format does not know is refused before anything is written. */
static void test_an_unknown_role_is_refused_by_its_place(void **state)
{
    const struct chat_format *format = chat_format_find(SLICE("plain"));
    const struct chat_message tool[] = {talk[0], {{"tool", 4}, {"x", 1}}, {{"use", 3}, {"x", 1}}};
    struct buffer text = {0};
    uint32_t bad = 9;

    (void)state;
    assert_int_equal(chat_render(format, tool, 3, &text, &bad), ERR_INPUT);
    assert_int_equal(bad, 1);
    assert_int_equal(text.len, 0);
    buffer_release(&text);
}

static void test_encoding_is_the_text_with_the_begin_token(void **state)
{
    const struct chat_format *format = chat_format_find(SLICE("plain"));
    struct tokenizer *tokenizer = tokenizer_new_bytes();
    struct tokens tokens = {0};
    uint32_t bad;

    (void)state;
    assert_int_equal(chat_encode(format, tokenizer, talk + 3, 1, 100, &tokens, &bad), ERR_OK);
    assert_int_equal(tokens.len, 1 + sizeof("user: Three.\nassistant:") - 1);
    assert_int_equal(tokens.id[0], 256);
    assert_int_equal(tokens.id[tokens.len - 1], ':');
    assert_int_equal(chat_encode(format, tokenizer, talk, 4, 20, &tokens, &bad), ERR_LIMIT);
    free(tokens.id);
    tokenizer_free(tokenizer);
}

/* A Jinja template is known by its sign; others, and parts of names, are not known. */
static void test_templates_are_known_by_name_or_sign(void **state)
{
    const struct chat_format *plain = chat_format_find(SLICE("plain"));

    (void)state;
    assert_ptr_equal(chat_format_of_template(SLICE("plain")), plain);
    assert_ptr_equal(chat_format_of_template(SLICE(
                         "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + "
                         "message['content'] + '\\n' }}{% endfor %}{{ 'assistant:' }}")),
                     plain);
    assert_null(chat_format_of_template(SLICE("{% for message in messages %}[INST]")));
    assert_null(chat_format_of_template(SLICE("")));
    assert_null(chat_format_find(SLICE("{% for message in messages %}")));
    assert_null(chat_format_find(SLICE("")));
    assert_null(chat_format_find(SLICE("plainer")));
}

/* The formats that the settings allow are those that are here: any other is refused at start. */
static void test_the_settings_know_every_format(void **state)
{
    const struct setting *row = setting_find(&tier_rows, SLICE("chat_format"));
    struct buffer choices = {0};

    (void)state;
    assert_non_null(row);
    for (uint32_t i = 0; chat_format_at(i) != NULL; i++)
        buffer_printf(&choices, "%s%s", i > 0 ? "|" : "", chat_format_name(chat_format_at(i)));
    assert_string_equal(row->choices, choices.data);
    buffer_release(&choices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_is_role_colon_content),
        cmocka_unit_test(test_an_unknown_role_is_refused_by_its_place),
        cmocka_unit_test(test_encoding_is_the_text_with_the_begin_token),
        cmocka_unit_test(test_templates_are_known_by_name_or_sign),
        cmocka_unit_test(test_the_settings_know_every_format),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
