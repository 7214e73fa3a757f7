/*
 * line.c: custom_id, method, url and body, in this order; the first fault is the line's.
 */
#include "producer/line.h"
#include "producer/message.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool line_is_blank(struct slice text)
{
    size_t at = 0;

    while (at < text.len &&
           (text.data[at] == ' ' || text.data[at] == '\t' || text.data[at] == '\r'))
        at++;
    return at == text.len;
}

static enum err refuse(struct request_error *error, const char *code, const char *param,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

static enum err refuse(struct request_error *error, const char *code, const char *param,
                       const char *format, ...)
{
    va_list args;

    error->code = code;
    snprintf(error->param, sizeof(error->param), "%s", param);
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    return ERR_INPUT;
}

/* A value from outside, as a sentence shows it: what is printable and short, or nothing. */
static const char *show(char out[64], struct slice text)
{
    size_t len = 0;

    while (len < text.len && len < 60 && text.data[len] > 0x20 && text.data[len] < 0x7f)
        len++;
    memcpy(out, text.data, len);
    memcpy(out + len, len < text.len ? "..." : "", len < text.len ? 4 : 1);
    return out;
}

/* The member, when it is a string; else the error. */
static enum err get_text(const struct json *tree, const char *name, const struct json **ret,
                         struct request_error *error)
{
    const struct json *value = json_get(tree, name);

    if (value == NULL || json_is_null(value))
        return refuse(error, "missing_required_parameter", name, "the line has no `%s`.", name);
    if (!json_is_string(value))
        return refuse(error, "invalid_type", name, "`%s` must be a string, not %s.", name,
                      json_type_name(value->type));
    *ret = value;
    return ERR_OK;
}

static enum err read_custom_id(const struct json *tree, struct line *line,
                               struct request_error *error)
{
    const struct json *value;

    if (get_text(tree, "custom_id", &value, error) != ERR_OK)
        return ERR_INPUT;
    if (value->text.len == 0)
        return refuse(error, "invalid_value", "custom_id", "`custom_id` must not be empty.");
    if (value->text.len > MESSAGE_CUSTOM_ID_BYTES_MAX)
        return refuse(error, "invalid_value", "custom_id",
                      "`custom_id` has %zu bytes; at most %d are allowed.", value->text.len,
                      MESSAGE_CUSTOM_ID_BYTES_MAX);
    if (memchr(value->text.data, '\0', value->text.len) != NULL)
        return refuse(error, "invalid_value", "custom_id",
                      "`custom_id` must not contain a NUL character (\\u0000).");
    line->custom_id = value->text;
    line->custom_id_raw = (struct slice){value->raw.data + 1, value->raw.len - 2};
    return ERR_OK;
}

static enum err read_method(const struct json *tree, struct request_error *error)
{
    const struct json *value;
    char shown[64];

    if (get_text(tree, "method", &value, error) != ERR_OK)
        return ERR_INPUT;
    if (!json_equals(value, "POST"))
        return refuse(error, "invalid_method", "method", "`method` must be POST, not \"%s\".",
                      show(shown, value->text));
    return ERR_OK;
}

static enum err read_url(const struct json *tree, const struct line_rules *rules, struct line *line,
                         struct request_error *error)
{
    const struct json *value;
    char shown[64];

    if (get_text(tree, "url", &value, error) != ERR_OK)
        return ERR_INPUT;
    if (!endpoint_find(value->text, &line->endpoint))
        return refuse(error, "invalid_url", "url",
                      "`url` must be /v1/completions, /v1/chat/completions or /v1/embeddings, not "
                      "\"%s\".",
                      show(shown, value->text));
    line->has_endpoint = true;
    if (rules->has_endpoint && line->endpoint != rules->endpoint)
        return refuse(error, "mismatched_endpoint", "url",
                      "`url` is %s, but this job's endpoint is %s: all lines must have the same.",
                      endpoint_url(line->endpoint), endpoint_url(rules->endpoint));
    return ERR_OK;
}

static bool is_served(const struct line_models *models, struct slice name)
{
    for (uint32_t i = 0; i < models->count; i++)
        if (models->name[i].len == name.len &&
            memcmp(models->name[i].data, name.data, name.len) == 0)
            return true;
    return false;
}

static enum err refuse_model(const struct line_models *models, struct slice model,
                             struct request_error *error)
{
    char shown[64], names[120] = "";
    size_t len = 0;

    show(shown, model);
    for (uint32_t i = 0; i < models->count && len < sizeof(names); i++)
        len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%.*s", i > 0 ? ", " : "",
                                (int)models->name[i].len, models->name[i].data);
    if (models->tier[0] == '\0')
        return refuse(error, "model_not_found", "model", "no tier serves the model \"%s\".", shown);
    if (len >= sizeof(names))
        memcpy(names + sizeof(names) - 4, "...", 4);
    return refuse(error, "model_not_found", "model",
                  "the tier %s does not serve the model \"%s\"; it answers to %s.", models->tier,
                  shown, names);
}

/* A member that is none of the four would be ignored, and that is never done. */
static enum err check_members(const struct json *tree, struct request_error *error)
{
    static const char *const known[] = {"custom_id", "method", "url", "body"};
    const struct json *member;

    json_each(member, tree)
    {
        bool found = json_is_null(member);
        char shown[64];

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
            found = member->key.len == strlen(known[i]) &&
                    memcmp(member->key.data, known[i], member->key.len) == 0;
        if (!found)
            return refuse(error, "unsupported_parameter", show(shown, member->key),
                          "a line has custom_id, method, url and body; `%s` is none of them.",
                          show(shown, member->key));
    }
    return ERR_OK;
}

static enum err read_body(struct arena *arena, const struct json *tree,
                          const struct line_rules *rules, struct line *line,
                          struct request_error *error)
{
    const struct json *body = json_get(tree, "body");
    const struct json *model = json_get(body, "model");
    struct request *request;

    if (body == NULL || json_is_null(body))
        return refuse(error, "missing_required_parameter", "body", "the line has no `body`.");
    if (json_is_string(model))
        line->model = model->text;
    if (json_is_string(model) && model->text.len > 0 && rules->models != NULL &&
        !is_served(rules->models, model->text))
        return refuse_model(rules->models, model->text, error);
    if (request_read(arena, body, line->endpoint, &request, error) != ERR_OK)
        return ERR_INPUT;
    line->body = body->raw;
    line->work = request_work(request);
    return ERR_OK;
}

/* Half a surrogate pair in a string, "\ud800", is not text; say so instead of "not valid JSON". */
static const char *fault_code(const struct json_error *fault)
{
    return fault->fault == JSON_UTF8 || fault->fault == JSON_SURROGATE ? "invalid_utf8"
                                                                       : "invalid_json_line";
}

enum err line_read(struct arena *arena, const struct line_rules *rules, struct slice text,
                   struct line *ret, struct request_error *error)
{
    struct json_limits limits = {.nodes_max = REQUEST_NODES_MAX};
    struct json_error fault;
    struct json *tree;
    enum err rc;

    *ret = (struct line){0};
    if (json_parse(arena, text, &limits, &tree, &fault) != ERR_OK)
        return refuse(error, fault_code(&fault), "", "%s.", fault.message);
    if (!json_is_object(tree))
        return refuse(error, "invalid_json_line", "", "a line must be a JSON object, not %s.",
                      json_type_name(tree->type));
    rc = read_custom_id(tree, ret, error);
    if (rc == ERR_OK)
        rc = check_members(tree, error);
    if (rc == ERR_OK)
        rc = read_method(tree, error);
    if (rc == ERR_OK)
        rc = read_url(tree, rules, ret, error);
    return rc == ERR_OK ? read_body(arena, tree, rules, ret, error) : rc;
}
