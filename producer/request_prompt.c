/*
 * request_prompt.c: the fields that are more than a number: prompts, chat messages, stop strings.
 */
#include "producer/request_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Builds "messages[3].content[0]" into a small field; longer paths are cut. */
static const char *path(char out[80], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static const char *path(char out[80], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(out, 80, format, args);
    va_end(args);
    return out;
}

static bool read_ids(struct request_reader *reader, const char *name, const struct json *list)
{
    struct request *request = reader->request;
    const struct json *item;
    uint32_t count = 0;

    if (list->count > REQUEST_PROMPT_IDS_MAX)
        return request_refuse(reader, "invalid_value", name, "`%s` has more than %d token ids.",
                              name, REQUEST_PROMPT_IDS_MAX);
    request->prompt_ids = arena_alloc(reader->arena, list->count * sizeof(uint32_t));
    json_each(item, list)
    {
        uint64_t id;

        if (!json_u64(item, &id) || id > INT32_MAX)
            return request_refuse(reader, "invalid_value", name,
                                  "`%s` must hold token ids, and number %u of it is none.", name,
                                  count);
        request->prompt_ids[count++] = (uint32_t)id;
    }
    request->prompt_ids_len = count;
    request->prompt_bytes = (uint64_t)count * 4;
    return true;
}

static void take_text(struct request_reader *reader, const struct json *value)
{
    reader->request->prompt = value->text;
    reader->request->prompt_bytes = value->text.len;
}

/* A text, a list of token ids, or a list of one of either. */
static bool read_prompt(struct request_reader *reader, const char *name, const struct json *value)
{
    if (json_is_array(value) && value->first != NULL && !json_is_number(value->first)) {
        if (value->count > 1)
            return request_refuse(reader, "unsupported_parameter", name,
                                  "`%s` holds %u prompts; send each as a line of its own.", name,
                                  value->count);
        value = value->first;
    }
    if (json_is_string(value)) {
        take_text(reader, value);
        return true;
    }
    if (!json_is_array(value))
        return request_refuse_type(reader, name, "a string or a list of token ids", value);
    if (value->first == NULL)
        return request_refuse(reader, "invalid_value", name, "`%s` must not be empty.", name);
    return read_ids(reader, name, value);
}

bool request_read_prompt(struct request_reader *reader, const char *name, const struct json *value)
{
    return read_prompt(reader, name, value);
}

bool request_read_input(struct request_reader *reader, const char *name, const struct json *value)
{
    if (!read_prompt(reader, name, value))
        return false;
    if (reader->request->prompt_ids == NULL && reader->request->prompt.len == 0)
        return request_refuse(reader, "invalid_value", name, "`%s` must not be empty.", name);
    return true;
}

static const struct {
    const char *name;
    enum message_role role;
} roles[] = {
    {"system", ROLE_SYSTEM},
    {"user", ROLE_USER},
    {"assistant", ROLE_ASSISTANT},
    {"developer", ROLE_SYSTEM}, /* OpenAI's newer word for system */
};

const char *message_role_name(enum message_role role)
{
    return roles[role].name;
}

static bool read_role(struct request_reader *reader, const char *at, const struct json *value,
                      enum message_role *ret)
{
    if (value == NULL || json_is_null(value))
        return request_refuse(reader, "missing_required_parameter", at, "`%s` is missing.", at);
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        if (json_equals(value, roles[i].name)) {
            *ret = roles[i].role;
            return true;
        }
    }
    if (json_equals(value, "tool") || json_equals(value, "function"))
        return request_refuse(reader, "unsupported_parameter", at, "`%s`: tools are not supported.",
                              at);
    return request_refuse(reader, "invalid_value", at,
                          "`%s` must be system, developer, user or assistant.", at);
}

/* One {"type": "text", "text": …}; *ret is its text. */
static bool read_part(struct request_reader *reader, const char *at, const struct json *part,
                      struct slice *ret)
{
    const struct json *type = json_get(part, "type");
    const struct json *text = json_get(part, "text");

    if (!json_is_object(part))
        return request_refuse_type(reader, at, "an object", part);
    if (!json_equals(type, "text"))
        return request_refuse(reader, "unsupported_parameter", at,
                              "`%s`: only parts of type \"text\" are supported.", at);
    if (!json_is_string(text))
        return request_refuse(reader, "invalid_type", at, "`%s.text` must be a string.", at);
    if (part->count != 2)
        return request_refuse(reader, "unsupported_parameter", at,
                              "`%s` may have a type and a text and nothing else.", at);
    *ret = text->text;
    return true;
}

/* Text parts, joined by newlines. */
static bool read_parts(struct request_reader *reader, const char *at, const struct json *list,
                       struct slice *ret)
{
    struct slice *parts = arena_alloc(reader->arena, (list->count + 1) * sizeof(*parts));
    const struct json *item;
    size_t bytes = 0;
    uint32_t count = 0;
    char *out;
    char where[80];

    if (list->count == 0)
        return request_refuse(reader, "invalid_value", at, "`%s` must not be an empty list.", at);
    json_each(item, list)
    {
        if (!read_part(reader, path(where, "%s[%u]", at, count), item, &parts[count]))
            return false;
        bytes += parts[count++].len + 1;
    }
    ret->data = out = arena_alloc(reader->arena, bytes);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(out, parts[i].data, parts[i].len);
        out += parts[i].len;
        *out++ = '\n';
    }
    ret->len = bytes - 1;
    return true;
}

static bool read_content(struct request_reader *reader, const char *at, const struct json *value,
                         struct slice *ret)
{
    if (value == NULL || json_is_null(value))
        return request_refuse(reader, "missing_required_parameter", at, "`%s` is missing.", at);
    if (json_is_array(value))
        return read_parts(reader, at, value, ret);
    if (!json_is_string(value))
        return request_refuse_type(reader, at, "a string or a list of text parts", value);
    *ret = value->text;
    return true;
}

/* Members other than these would change what the model reads. */
static bool check_members(struct request_reader *reader, uint32_t number, const struct json *item)
{
    const struct json *member;
    char at[80];

    json_each(member, item)
    {
        if (json_is_null(member) || json_get(item, "role") == member ||
            json_get(item, "content") == member || json_get(item, "name") == member)
            continue;
        path(at, "messages[%u]", number);
        return request_refuse(reader, "unsupported_parameter", at,
                              "`%s` may have a role, a content and a name and nothing else.", at);
    }
    return true;
}

static bool read_message(struct request_reader *reader, uint32_t number, const struct json *item,
                         struct request_message *message)
{
    const struct json *name = json_get(item, "name");
    char at[80];

    if (!json_is_object(item))
        return request_refuse_type(reader, path(at, "messages[%u]", number), "an object", item);
    if (!read_role(reader, path(at, "messages[%u].role", number), json_get(item, "role"),
                   &message->role) ||
        !check_members(reader, number, item) ||
        !read_content(reader, path(at, "messages[%u].content", number), json_get(item, "content"),
                      &message->content))
        return false;
    message->name = (struct slice){0};
    if (name != NULL && !json_is_null(name)) {
        if (!json_is_string(name))
            return request_refuse_type(reader, path(at, "messages[%u].name", number), "a string",
                                       name);
        message->name = name->text;
    }
    reader->request->prompt_bytes += message->content.len;
    return true;
}

bool request_read_messages(struct request_reader *reader, const char *name,
                           const struct json *value)
{
    struct request *request = reader->request;
    const struct json *item;
    uint32_t count = 0;

    if (!json_is_array(value))
        return request_refuse_type(reader, name, "a list of messages", value);
    if (value->count == 0 || value->count > REQUEST_MESSAGES_MAX)
        return request_refuse(reader, "invalid_value", name, "`%s` must hold 1 to %d messages.",
                              name, REQUEST_MESSAGES_MAX);
    request->messages = arena_alloc(reader->arena, value->count * sizeof(*request->messages));
    json_each(item, value)
    {
        if (!read_message(reader, count, item, &request->messages[count]))
            return false;
        count++;
    }
    request->messages_len = count;
    return true;
}

bool request_read_stop(struct request_reader *reader, const char *name, const struct json *value)
{
    struct request *request = reader->request;
    bool list = json_is_array(value);
    const struct json *item = list ? value->first : value;

    if (!list && !json_is_string(value))
        return request_refuse_type(reader, name, "a string or a list of strings", value);
    if (list && value->count > REQUEST_STOP_MAX)
        return request_refuse(reader, "invalid_value", name, "`%s` may hold at most %d strings.",
                              name, REQUEST_STOP_MAX);
    request->stop = arena_alloc(reader->arena, REQUEST_STOP_MAX * sizeof(struct slice));
    for (; item != NULL; item = list ? item->next : NULL) {
        if (!json_is_string(item))
            return request_refuse_type(reader, name, "a string or a list of strings", item);
        if (item->text.len == 0 || item->text.len > REQUEST_STOP_BYTES_MAX)
            return request_refuse(reader, "invalid_value", name,
                                  "each string of `%s` must have 1 to %d bytes.", name,
                                  REQUEST_STOP_BYTES_MAX);
        request->stop[request->stop_len++] = item->text;
    }
    return true;
}
