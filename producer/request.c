/*
 * request.c: one table of fields; each row says what a field may be and where it goes.
 */
#include "producer/request.h"
#include "config/utf8.h"
#include "producer/request_fields.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char *const urls[ENDPOINT_COUNT] = {
    [ENDPOINT_COMPLETIONS] = "/v1/completions",
    [ENDPOINT_CHAT] = "/v1/chat/completions",
    [ENDPOINT_EMBEDDINGS] = "/v1/embeddings",
};

const char *endpoint_url(enum endpoint endpoint)
{
    return urls[endpoint];
}

bool endpoint_find(struct slice url, enum endpoint *ret)
{
    for (int i = 0; i < ENDPOINT_COUNT; i++) {
        if (url.len == strlen(urls[i]) && memcmp(url.data, urls[i], url.len) == 0) {
            *ret = (enum endpoint)i;
            return true;
        }
    }
    return false;
}

/* What a field may be. */
enum kind {
    KIND_TEXT,     /* a string that is not empty -> struct slice */
    KIND_FLAG,     /* a boolean -> bool */
    KIND_REAL,     /* a number min..max -> double */
    KIND_COUNT,    /* a whole number min..max -> uint32_t */
    KIND_READ,     /* read by a function */
    KIND_HARMLESS, /* does not touch the output: anything goes */
    KIND_NEUTRAL,  /* not implemented: accepted only where its value changes nothing */
};

enum {
    COMP = 1 << ENDPOINT_COMPLETIONS,
    CHAT = 1 << ENDPOINT_CHAT,
    EMBED = 1 << ENDPOINT_EMBEDDINGS
};
enum { GENERATE = COMP | CHAT, ANY = COMP | CHAT | EMBED };

struct field {
    const char *name;
    unsigned endpoints; /* bits */
    enum kind kind;
    size_t offset; /* TEXT, FLAG, REAL, COUNT: in struct request */
    double min, max;
    request_field_fn *read; /* READ */
    const char *neutral;    /* NEUTRAL: JSON of the value that changes nothing; NULL: only null */
};

static request_field_fn read_top_p, read_top_k, read_seed, read_truncate, read_encoding,
    read_completion_tokens, read_response_format;

#define AT(member) offsetof(struct request, member)

/* clang-format off */
static const struct field fields[] = {
    /* what to read */
    {"model",                         ANY,      KIND_TEXT,  AT(model), 0, 0, NULL, NULL},
    {"prompt",                        COMP,     KIND_READ,  0, 0, 0, request_read_prompt, NULL},
    {"messages",                      CHAT,     KIND_READ,  0, 0, 0, request_read_messages, NULL},
    {"input",                         EMBED,    KIND_READ,  0, 0, 0, request_read_input, NULL},
    {"truncate_prompt_tokens",        ANY,      KIND_READ,  0, 0, 0, read_truncate, NULL},
    /* how to write */
    {"max_tokens",                    GENERATE, KIND_COUNT, AT(max_tokens), 1, REQUEST_TOKENS_MAX, NULL, NULL},
    {"max_completion_tokens",         CHAT,     KIND_READ,  0, 0, 0, read_completion_tokens, NULL},
    {"temperature",                   GENERATE, KIND_REAL,  AT(temperature), 0, 2, NULL, NULL},
    {"top_p",                         GENERATE, KIND_READ,  0, 0, 0, read_top_p, NULL},
    {"min_p",                         GENERATE, KIND_REAL,  AT(min_p), 0, 1, NULL, NULL},
    {"top_k",                         GENERATE, KIND_READ,  0, 0, 0, read_top_k, NULL},
    {"seed",                          GENERATE, KIND_READ,  0, 0, 0, read_seed, NULL},
    {"stop",                          GENERATE, KIND_READ,  0, 0, 0, request_read_stop, NULL},
    {"ignore_eos",                    GENERATE, KIND_FLAG,  AT(ignore_eos), 0, 0, NULL, NULL},
    {"include_stop_str_in_output",    GENERATE, KIND_FLAG,  AT(include_stop), 0, 0, NULL, NULL},
    /* how to answer */
    {"return_token_ids",              GENERATE, KIND_FLAG,  AT(return_token_ids), 0, 0, NULL, NULL},
    {"encoding_format",               EMBED,    KIND_READ,  0, 0, 0, read_encoding, NULL},
    {"response_format",               CHAT,     KIND_READ,  0, 0, 0, read_response_format, NULL},
    /* who asks, and other things that leave the output as it is */
    {"user",                          ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"metadata",                      ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"store",                         ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"service_tier",                  ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"safety_identifier",             ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"prompt_cache_key",              ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"prompt_cache_retention",        ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"cache_salt",                    ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"request_id",                    ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    {"priority",                      ANY,      KIND_HARMLESS, 0, 0, 0, NULL, NULL},
    /* not implemented: these have a value that changes nothing, and only that is accepted */
    {"stream",                        ANY,      KIND_NEUTRAL, 0, 0, 0, NULL, "false"},
    {"n",                             GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "1"},
    {"best_of",                       COMP,     KIND_NEUTRAL, 0, 0, 0, NULL, "1"},
    {"echo",                          GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "false"},
    {"suffix",                        COMP,     KIND_NEUTRAL, 0, 0, 0, NULL, "\"\""},
    {"logprobs",                      CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "false"},
    {"top_logprobs",                  CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "0"},
    {"frequency_penalty",             GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "0"},
    {"presence_penalty",              GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "0"},
    {"repetition_penalty",            GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "1"},
    {"length_penalty",                GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "1"},
    {"use_beam_search",               GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "false"},
    {"logit_bias",                    GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "{}"},
    {"min_tokens",                    GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "0"},
    {"stop_token_ids",                GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "[]"},
    {"bad_words",                     GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "[]"},
    {"skip_special_tokens",           GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "true"},
    {"spaces_between_special_tokens", GENERATE, KIND_NEUTRAL, 0, 0, 0, NULL, "true"},
    {"tools",                         CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "[]"},
    {"tool_choice",                   CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "\"none\""},
    {"parallel_tool_calls",           CHAT,     KIND_HARMLESS, 0, 0, 0, NULL, NULL}, /* no tools */
    {"functions",                     CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "[]"},
    {"function_call",                 CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "\"none\""},
    {"add_generation_prompt",         CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "true"},
    {"continue_final_message",        CHAT,     KIND_NEUTRAL, 0, 0, 0, NULL, "false"},
    {"add_special_tokens",            COMP | EMBED, KIND_NEUTRAL, 0, 0, 0, NULL, "true"},
};
/* clang-format on */

enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]) };

bool request_refuse(struct request_reader *reader, const char *code, const char *param,
                    const char *format, ...)
{
    struct request_error *error = reader->error;
    va_list args;

    error->code = code;
    snprintf(error->param, sizeof(error->param), "%s", param);
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    return false;
}

bool request_refuse_type(struct request_reader *reader, const char *param, const char *want,
                         const struct json *value)
{
    return request_refuse(reader, "invalid_type", param, "`%s` must be %s, not %s.", param, want,
                          json_type_name(value->type));
}

static bool refuse_range(struct request_reader *reader, const struct field *field,
                         const struct json *value)
{
    return request_refuse(reader, "invalid_value", field->name,
                          "`%s` must be %.10g to %.10g, not %.*s.", field->name, field->min,
                          field->max, (int)(value->text.len < 40 ? value->text.len : 40),
                          value->text.data);
}

static bool read_real(struct request_reader *reader, const struct field *field,
                      const struct json *value)
{
    double number;

    if (!json_is_number(value))
        return request_refuse_type(reader, field->name, "a number", value);
    if (!json_f64(value, &number) || number < field->min || number > field->max)
        return refuse_range(reader, field, value);
    *(double *)((char *)reader->request + field->offset) = number;
    return true;
}

/* A whole number from min to max, for any field. */
static bool read_whole(struct request_reader *reader, const char *name, const struct json *value,
                       int64_t min, int64_t max, int64_t *ret)
{
    struct field field = {.name = name, .min = (double)min, .max = (double)max};
    double real;

    if (!json_is_number(value))
        return request_refuse_type(reader, name, "a whole number", value);
    if (json_i64(value, ret))
        return *ret >= min && *ret <= max ? true : refuse_range(reader, &field, value);
    if (json_f64(value, &real) && (real < field.min || real > field.max))
        return refuse_range(reader, &field, value);
    return request_refuse(reader, "invalid_value", name, "`%s` must be a whole number.", name);
}

static bool read_count(struct request_reader *reader, const struct field *field,
                       const struct json *value)
{
    int64_t number;

    if (!read_whole(reader, field->name, value, (int64_t)field->min, (int64_t)field->max, &number))
        return false;
    *(uint32_t *)((char *)reader->request + field->offset) = (uint32_t)number;
    return true;
}

static bool read_text(struct request_reader *reader, const struct field *field,
                      const struct json *value)
{
    if (!json_is_string(value))
        return request_refuse_type(reader, field->name, "a string", value);
    if (value->text.len == 0)
        return request_refuse(reader, "invalid_value", field->name, "`%s` must not be empty.",
                              field->name);
    *(struct slice *)((char *)reader->request + field->offset) = value->text;
    return true;
}

static bool read_flag(struct request_reader *reader, const struct field *field,
                      const struct json *value)
{
    if (!json_is_bool(value))
        return request_refuse_type(reader, field->name, "true or false", value);
    *(bool *)((char *)reader->request + field->offset) = value->boolean;
    return true;
}

/* Whether a value is the one that changes nothing, by value and not by spelling: 1 is 1.0. */
static bool is_neutral(const char *neutral, const struct json *value)
{
    double number, want;

    switch (neutral[0]) {
    case 't':
    case 'f':
        return json_is_bool(value) && value->boolean == (neutral[0] == 't');
    case '"':
        return json_is_string(value) && value->text.len == strlen(neutral) - 2 &&
               memcmp(value->text.data, neutral + 1, value->text.len) == 0;
    case '[':
        return json_is_array(value) && value->count == 0;
    case '{':
        return json_is_object(value) && value->count == 0;
    default:
        want = neutral[0] - '0';
        return json_f64(value, &number) && number == want;
    }
}

static bool read_neutral(struct request_reader *reader, const struct field *field,
                         const struct json *value)
{
    if (is_neutral(field->neutral, value))
        return true;
    if (strcmp(field->name, "stream") == 0)
        return request_refuse(
            reader, "unsupported_parameter", field->name,
            "`stream` is not possible in a batch; leave it out or set it to false.");
    return request_refuse(reader, "unsupported_parameter", field->name,
                          "`%s` is not supported; leave it out or set it to %s.", field->name,
                          field->neutral);
}

/* 0 would keep no token at all; vLLM refuses it too. */
static bool read_top_p(struct request_reader *reader, const char *name, const struct json *value)
{
    const struct field field = {.name = name, .offset = AT(top_p), .max = 1};

    if (!read_real(reader, &field, value))
        return false;
    return reader->request->top_p > 0
               ? true
               : request_refuse(reader, "invalid_value", name,
                                "`%s` must be above 0 and at most 1, not 0; for the most likely "
                                "token alone set `temperature` to 0.",
                                name);
}

static bool read_top_k(struct request_reader *reader, const char *name, const struct json *value)
{
    int64_t k;

    if (!read_whole(reader, name, value, -1, REQUEST_TOKENS_MAX, &k))
        return false;
    reader->request->top_k = k > 0 ? (uint32_t)k : 0;
    return true;
}

static bool read_seed(struct request_reader *reader, const char *name, const struct json *value)
{
    int64_t seed;

    if (!json_is_number(value))
        return request_refuse_type(reader, name, "a whole number", value);
    if (!json_i64(value, &seed))
        return request_refuse(reader, "invalid_value", name,
                              "`%s` must be a whole number of 64 bits.", name);
    reader->request->has_seed = true;
    reader->request->seed = (uint64_t)seed;
    return true;
}

static bool read_truncate(struct request_reader *reader, const char *name, const struct json *value)
{
    int64_t keep;

    if (!read_whole(reader, name, value, -1, REQUEST_TOKENS_MAX, &keep))
        return false;
    if (keep == 0)
        return request_refuse(reader, "invalid_value", name,
                              "`%s` must be -1 or at least 1, not 0.", name);
    reader->request->truncate_prompt = (int32_t)keep;
    return true;
}

static bool read_completion_tokens(struct request_reader *reader, const char *name,
                                   const struct json *value)
{
    int64_t tokens;

    if (!read_whole(reader, name, value, 1, REQUEST_TOKENS_MAX, &tokens))
        return false;
    reader->max_completion_tokens = (uint32_t)tokens;
    return true;
}

static bool read_encoding(struct request_reader *reader, const char *name, const struct json *value)
{
    if (!json_is_string(value))
        return request_refuse_type(reader, name, "a string", value);
    if (!json_equals(value, "float") && !json_equals(value, "base64"))
        return request_refuse(reader, "invalid_value", name,
                              "`%s` must be \"float\" or \"base64\".", name);
    reader->request->embedding_base64 = json_equals(value, "base64");
    return true;
}

static bool read_response_format(struct request_reader *reader, const char *name,
                                 const struct json *value)
{
    if (!json_is_object(value))
        return request_refuse_type(reader, name, "an object", value);
    if (value->count != 1 || !json_equals(json_get(value, "type"), "text"))
        return request_refuse(
            reader, "unsupported_parameter", name,
            "`%s` is not supported; leave it out or set it to {\"type\": \"text\"}.", name);
    return true;
}

static const struct field *find_field(struct slice name, enum endpoint endpoint)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if ((fields[i].endpoints & 1U << endpoint) != 0 && strlen(fields[i].name) == name.len &&
            memcmp(fields[i].name, name.data, name.len) == 0)
            return &fields[i];
    return NULL;
}

/* A field name from outside as it is shown: its first characters, whole ones. */
static const char *show_name(char out[64], struct slice name)
{
    size_t len = name.len < 60 ? name.len : 60;

    while (len > 0 && !utf8_valid((struct slice){name.data, len}))
        len--;
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)name.data[i] < 0x20 || name.data[i] == 0x7f ? '?' : name.data[i];
    out[len] = '\0';
    return out;
}

static bool read_field(struct request_reader *reader, const struct json *value)
{
    const struct field *field = find_field(value->key, reader->request->endpoint);
    char shown[64];

    if (json_is_null(value))
        return true;
    if (field == NULL) {
        show_name(shown, value->key);
        return request_refuse(reader, "unsupported_parameter", shown,
                              "`%s` is not supported by %s.", shown,
                              endpoint_url(reader->request->endpoint));
    }
    switch (field->kind) {
    case KIND_TEXT:
        return read_text(reader, field, value);
    case KIND_FLAG:
        return read_flag(reader, field, value);
    case KIND_REAL:
        return read_real(reader, field, value);
    case KIND_COUNT:
        return read_count(reader, field, value);
    case KIND_READ:
        return field->read(reader, field->name, value);
    case KIND_NEUTRAL:
        return read_neutral(reader, field, value);
    case KIND_HARMLESS:
        break;
    }
    return true;
}

static bool refuse_missing(struct request_reader *reader, const char *name)
{
    return request_refuse(reader, "missing_required_parameter", name,
                          "the body has no `%s`, which %s requires.", name,
                          endpoint_url(reader->request->endpoint));
}

/* What must be there, and what depends on more than one field. */
static bool finish(struct request_reader *reader)
{
    struct request *request = reader->request;

    if (request->model.len == 0)
        return refuse_missing(reader, "model");
    if (request->endpoint == ENDPOINT_CHAT && request->messages == NULL)
        return refuse_missing(reader, "messages");
    if (request->endpoint != ENDPOINT_CHAT && request->prompt.data == NULL &&
        request->prompt_ids == NULL)
        return refuse_missing(reader,
                              request->endpoint == ENDPOINT_COMPLETIONS ? "prompt" : "input");
    if (reader->max_completion_tokens > 0)
        request->max_tokens = reader->max_completion_tokens;
    if (request->endpoint == ENDPOINT_COMPLETIONS && request->max_tokens == 0)
        request->max_tokens = REQUEST_COMPLETION_TOKENS;
    return true;
}

enum err request_read(struct arena *arena, const struct json *body, enum endpoint endpoint,
                      struct request **ret, struct request_error *error)
{
    struct request *request = arena_zalloc(arena, 1, sizeof(*request));
    struct request_reader reader = {.arena = arena, .request = request, .error = error};
    const struct json *value;

    request->endpoint = endpoint;
    request->temperature = 1;
    request->top_p = 1;
    if (!json_is_object(body)) {
        request_refuse_type(&reader, "body", "an object", body);
        return ERR_INPUT;
    }
    json_each(value, body)
    {
        if (!read_field(&reader, value))
            return ERR_INPUT;
    }
    if (!finish(&reader))
        return ERR_INPUT;
    *ret = request;
    return ERR_OK;
}

enum err request_parse(struct arena *arena, struct slice body, enum endpoint endpoint,
                       struct request **ret, struct request_error *error)
{
    struct request_reader reader = {.error = error};
    struct json_limits limits = {.nodes_max = REQUEST_NODES_MAX};
    struct json_error fault;
    struct json *tree;

    if (json_parse(arena, body, &limits, &tree, &fault) != ERR_OK) {
        request_refuse(&reader, "invalid_json", "", "%s.", fault.message);
        return ERR_INPUT;
    }
    return request_read(arena, tree, endpoint, ret, error);
}

/* Tokens that are expected where the request does not say. */
enum { TOKENS_UNSAID = 256 };

uint64_t request_work(const struct request *request)
{
    uint64_t output = request->max_tokens > 0 ? request->max_tokens : TOKENS_UNSAID;

    if (request->endpoint == ENDPOINT_EMBEDDINGS)
        output = 1;
    return request->prompt_bytes / 4 + output;
}
