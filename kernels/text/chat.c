/* chat.c: the formats. */
#include "kernels/text/chat.h"

#include <string.h>

enum { ROLES_MAX = 4 };

struct chat_format {
    const char *name;
    const char *sign;       /* text that stands in Jinja templates of this format */
    const char *generation; /* asks the model to speak */
    struct {
        const char *role; /* NULL ends the list */
        const char *prefix;
        const char *suffix;
    } roles[ROLES_MAX];
};

static const struct chat_format formats[] = {
    {
        "plain",
        "message['role'] + ': ' + message['content'] + '\\n'",
        "assistant:",
        {
            {"system", "system: ", "\n"},
            {"user", "user: ", "\n"},
            {"assistant", "assistant: ", "\n"},
        },
    },
};

static bool equals(struct slice a, const char *b)
{
    return a.len == strlen(b) && memcmp(a.data, b, a.len) == 0;
}

const struct chat_format *chat_format_at(uint32_t index)
{
    return index < sizeof(formats) / sizeof(formats[0]) ? &formats[index] : NULL;
}

const struct chat_format *chat_format_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (equals(name, formats[i].name))
            return &formats[i];
    return NULL;
}

const struct chat_format *chat_format_of_template(struct slice text)
{
    const struct chat_format *named = chat_format_find(text);

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]) && named == NULL; i++)
        if (memmem(text.data, text.len, formats[i].sign, strlen(formats[i].sign)) != NULL)
            return &formats[i];
    return named;
}

const char *chat_format_name(const struct chat_format *format)
{
    return format->name;
}

static int find_role(const struct chat_format *format, struct slice role)
{
    for (int i = 0; i < ROLES_MAX && format->roles[i].role != NULL; i++)
        if (equals(role, format->roles[i].role))
            return i;
    return -1;
}

enum err chat_render(const struct chat_format *format, const struct chat_message *messages,
                     uint32_t len, struct buffer *out, uint32_t *ret_bad)
{
    for (uint32_t i = 0; i < len; i++)
        if (find_role(format, messages[i].role) < 0) {
            *ret_bad = i;
            return ERR_INPUT;
        }
    for (uint32_t i = 0; i < len; i++) {
        int role = find_role(format, messages[i].role);

        buffer_add_text(out, format->roles[role].prefix);
        buffer_add(out, messages[i].content.data, messages[i].content.len);
        buffer_add_text(out, format->roles[role].suffix);
    }
    buffer_add_text(out, format->generation);
    return ERR_OK;
}

enum err chat_encode(const struct chat_format *format, const struct tokenizer *tokenizer,
                     const struct chat_message *messages, uint32_t len, uint32_t tokens_max,
                     struct tokens *out, uint32_t *ret_bad)
{
    struct buffer text = {0};
    enum err err = chat_render(format, messages, len, &text, ret_bad);

    if (err == ERR_OK)
        err = tokenizer_encode(tokenizer, buffer_slice(&text), true, tokens_max, out);
    buffer_release(&text);
    return err;
}
