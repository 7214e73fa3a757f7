/* results_format.c: OpenAI's line, put together; a line of CSV, out of what the response says. */
#include "producer/results/results_format.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const char results_csv_heading[] =
    "custom_id,line,status,status_code,finish_reason,content,error_code,error_message,input_tokens,"
    "output_tokens,gpu_ns,finished_at\n";

/* ---------------------------------------------------------------------------------- OpenAI's line */

static void add_json(struct buffer *out, struct slice json)
{
    if (json.data != NULL)
        buffer_add(out, json.data, json.len);
    else
        buffer_add_text(out, "null");
}

static void add_answer(struct buffer *out, const struct result_row *row, const char *request)
{
    buffer_add_text(out, ",\"response\":{\"status_code\":");
    buffer_add_i64(out, row->has_status_code ? row->status_code : 200);
    buffer_add_text(out, ",\"request_id\":\"req_");
    buffer_add_text(out, request);
    buffer_add_text(out, "\",\"body\":");
    if (row->response.data == NULL && row->error.data != NULL) {
        buffer_add_text(out, "{\"error\":");
        add_json(out, row->error);
        buffer_add_byte(out, '}');
    } else {
        add_json(out, row->response);
    }
    buffer_add_text(out, "},\"error\":null");
}

void results_openai_line(struct buffer *out, const struct result_row *row)
{
    char id[UUID_BATCH_SIZE], request[UUID_BATCH_SIZE + 24];

    snprintf(request, sizeof(request), "%s_%lld",
             uuid_format_batch(row->job, id) + strlen("batch_"), (long long)row->job_line);
    buffer_add_text(out, "{\"id\":\"batch_req_");
    buffer_add_text(out, request);
    buffer_add_text(out, "\",\"custom_id\":");
    json_write_string(out, row->custom_id);
    if (row->has_status_code || row->response.data != NULL) {
        add_answer(out, row, request);
    } else {
        buffer_add_text(out, ",\"response\":null,\"error\":");
        add_json(out, row->error);
    }
    buffer_add_text(out, "}\n");
}

/* ----------------------------------------------------------------------------- what the row says */

static struct slice text_of(const struct json *value)
{
    return json_is_string(value) ? value->text : (struct slice){NULL, 0};
}

static void read_response(const struct json *response, struct result_words *words)
{
    const struct json *choices = json_get(response, "choices"), *data = json_get(response, "data");
    const struct json *choice = json_is_array(choices) ? choices->first : NULL;
    const struct json *content = json_get(json_get(choice, "message"), "content");
    const struct json *embedding = json_is_array(data) ? json_get(data->first, "embedding") : NULL;

    words->content = text_of(content != NULL ? content : json_get(choice, "text"));
    words->finish_reason = text_of(json_get(choice, "finish_reason"));
    if (embedding != NULL)
        words->embedding = json_is_string(embedding) ? embedding->text : embedding->raw;
}

static void read_error(const struct json *error, struct result_words *words)
{
    words->error_code = text_of(json_get(error, "code"));
    words->error_message = text_of(json_get(error, "message"));
}

bool results_words(struct arena *arena, const struct result_row *row, struct result_words *ret)
{
    struct json *json;
    bool good = true;

    *ret = (struct result_words){0};
    if (row->response.data != NULL) {
        good = json_parse(arena, row->response, NULL, &json, NULL) == ERR_OK;
        if (good && row->completed)
            read_response(json, ret);
        else if (good)
            read_error(json_get(json, "error"), ret);
    }
    if (row->error.data != NULL) {
        if (json_parse(arena, row->error, NULL, &json, NULL) == ERR_OK)
            read_error(json, ret);
        else
            good = false;
    }
    return good;
}

/* -------------------------------------------------------------------------------------------- CSV */

static bool is_plain_number(struct slice text)
{
    size_t at = text.len > 0 && (text.data[0] == '-' || text.data[0] == '+') ? 1 : 0;
    size_t digits = 0, points = 0;

    for (; at < text.len; at++) {
        if (text.data[at] >= '0' && text.data[at] <= '9')
            digits++;
        else if (text.data[at] == '.' && points == 0)
            points++;
        else
            return false;
    }
    return digits > 0;
}

static bool begins_with(struct slice text, const char *begin)
{
    return text.len >= strlen(begin) && memcmp(text.data, begin, strlen(begin)) == 0;
}

/* Would a spreadsheet take it for something to run? */
static bool is_formula(struct slice text)
{
    static const char *const begins[] = {"=",  "+",      "-",      "@",      "\t",
                                         "\r", "\uFF1D", "\uFF0B", "\uFF0D", "\uFF20"};

    if (is_plain_number(text))
        return false;
    while (text.len > 0 && text.data[0] == '\'') {
        text.data++;
        text.len--;
    }
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        if (begins_with(text, begins[i]))
            return true;
    }
    return false;
}

static bool needs_quotes(struct slice text)
{
    if (text.len > 0 && (text.data[0] == ' ' || text.data[text.len - 1] == ' '))
        return true;
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("\",\r\n\t", text.data[i]) != NULL && text.data[i] != '\0')
            return true;
    }
    return false;
}

/* A NUL, which JSON can hold and text files cannot, becomes U+FFFD. */
void results_csv_text(struct buffer *out, struct slice text)
{
    bool quoted = needs_quotes(text);

    if (quoted)
        buffer_add_byte(out, '"');
    if (is_formula(text))
        buffer_add_byte(out, '\'');
    for (size_t from = 0, at = 0; at <= text.len; at++) {
        if (at < text.len && text.data[at] != '"' && text.data[at] != '\0')
            continue;
        if (at > from)
            buffer_add(out, text.data + from, at - from);
        if (at < text.len)
            buffer_add_text(out, text.data[at] == '"' ? "\"\"" : "\uFFFD");
        from = at + 1;
    }
    if (quoted)
        buffer_add_byte(out, '"');
}

void results_csv_time(struct buffer *out, int64_t unix_us)
{
    time_t seconds = (time_t)(unix_us / 1000000);
    int64_t us = unix_us % 1000000;
    struct tm tm;
    char text[32];

    if (us < 0) { /* before 1970 */
        seconds--;
        us += 1000000;
    }
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &tm));
    buffer_printf(out, "%s.%06lldZ", text, (long long)us);
}

static void add_number(struct buffer *out, int64_t value)
{
    buffer_add_byte(out, ',');
    buffer_add_i64(out, value);
}

static void add_text(struct buffer *out, struct slice text)
{
    buffer_add_byte(out, ',');
    if (text.data != NULL)
        results_csv_text(out, text);
}

bool results_csv_line(struct buffer *out, struct arena *arena, const struct result_row *row)
{
    struct result_words words;
    bool good = results_words(arena, row, &words);

    results_csv_text(out, row->custom_id);
    add_number(out, row->line);
    add_text(out, row->status);
    buffer_add_byte(out, ',');
    if (row->has_status_code)
        buffer_add_i64(out, row->status_code);
    add_text(out, words.finish_reason);
    add_text(out, words.content.data != NULL ? words.content : words.embedding);
    add_text(out, words.error_code);
    add_text(out, words.error_message);
    add_number(out, row->input_tokens);
    add_number(out, row->output_tokens);
    add_number(out, row->gpu_ns);
    buffer_add_byte(out, ',');
    results_csv_time(out, row->finished_us);
    buffer_add_byte(out, '\n');
    arena_clear(arena);
    return good;
}
