/* results_join.c: adding up parts, and the line of the sum. */
#include "producer/results/results_join.h"
#include "producer/results/results_format.h"

const char results_join_heading[] =
    "path,first_line,parts,parts_completed,status,text,error_code,error_message,input_tokens,"
    "output_tokens,gpu_ns,finished_at\n";

void results_join_init(struct results_join *join)
{
    *join = (struct results_join){.first_line = -1};
}

void results_join_release(struct results_join *join)
{
    buffer_release(&join->path);
    buffer_release(&join->text);
    buffer_release(&join->responses);
    buffer_release(&join->error_code);
    buffer_release(&join->error_message);
    results_join_init(join);
}

static void begin(struct results_join *join, const struct result_row *row)
{
    join->first_line = row->first_line;
    join->parts = row->parts;
    join->here = join->completed = 0;
    join->has_text = join->has_error = false;
    join->input_tokens = join->output_tokens = join->gpu_ns = 0;
    join->finished_us = INT64_MIN;
    join->unreadable = 0;
    buffer_clear(&join->path);
    buffer_clear(&join->text);
    buffer_clear(&join->responses);
    buffer_clear(&join->error_code);
    buffer_clear(&join->error_message);
    buffer_add(&join->path, row->path.data, row->path.len);
}

/* Parts are cut where paragraphs end, so an empty line stands between what came of them. */
static void add_text(struct results_join *join, struct slice text)
{
    if (text.data == NULL)
        return;
    if (join->text.len > 0 && text.len > 0)
        buffer_add_text(&join->text, "\n\n");
    buffer_add(&join->text, text.data, text.len);
    join->has_text = true;
}

static void add_error(struct results_join *join, const struct result_words *words)
{
    if (join->has_error)
        return;
    join->has_error = true;
    buffer_add(&join->error_code, words->error_code.data, words->error_code.len);
    buffer_add(&join->error_message, words->error_message.data, words->error_message.len);
}

bool results_join_add(struct results_join *join, struct arena *arena, const struct result_row *row)
{
    struct result_words words;

    if (join->first_line != row->first_line)
        begin(join, row);
    if (!results_words(arena, row, &words))
        join->unreadable++;
    if (row->completed)
        add_text(join, words.content);
    else
        add_error(join, &words);
    arena_clear(arena);
    if (join->here > 0)
        buffer_add_byte(&join->responses, ',');
    results_openai_line(&join->responses, row);
    join->responses.len--; /* its newline */
    join->here++;
    join->completed += row->completed;
    join->input_tokens += row->input_tokens;
    join->output_tokens += row->output_tokens;
    join->gpu_ns += row->gpu_ns;
    if (row->finished_us > join->finished_us)
        join->finished_us = row->finished_us;
    return join->here == join->parts;
}

static const char *status_of(const struct results_join *join)
{
    if (join->completed == join->parts)
        return "completed";
    return join->completed > 0 ? "partial" : "failed";
}

static void write_json(const struct results_join *join, struct buffer *out)
{
    json_write_open(out, '{');
    json_write_key(out, "path");
    json_write_string(out, buffer_slice(&join->path));
    json_write_key(out, "first_line");
    json_write_i64(out, join->first_line);
    json_write_key(out, "parts");
    json_write_i64(out, join->parts);
    json_write_key(out, "parts_completed");
    json_write_i64(out, join->completed);
    json_write_key(out, "status");
    json_write_text(out, status_of(join));
    json_write_key(out, "text");
    if (join->has_text)
        json_write_string(out, join->text.len > 0 ? buffer_slice(&join->text) : SLICE(""));
    else
        json_write_null(out);
    json_write_key(out, "responses");
    buffer_add_byte(out, '[');
    buffer_add(out, join->responses.data, join->responses.len);
    buffer_add_byte(out, ']');
    json_write_key(out, "usage");
    json_write_open(out, '{');
    json_write_key(out, "input_tokens");
    json_write_i64(out, join->input_tokens);
    json_write_key(out, "output_tokens");
    json_write_i64(out, join->output_tokens);
    json_write_key(out, "total_tokens");
    json_write_i64(out, join->input_tokens + join->output_tokens);
    json_write_close(out, '}');
    json_write_key(out, "gpu_ns");
    json_write_i64(out, join->gpu_ns);
    json_write_close(out, '}');
    buffer_add_byte(out, '\n');
}

static void write_csv(const struct results_join *join, struct buffer *out)
{
    results_csv_text(out, buffer_slice(&join->path));
    buffer_printf(out, ",%lld,%d,%d,%s,", (long long)join->first_line, join->parts, join->completed,
                  status_of(join));
    results_csv_text(out, buffer_slice(&join->text));
    buffer_add_byte(out, ',');
    results_csv_text(out, buffer_slice(&join->error_code));
    buffer_add_byte(out, ',');
    results_csv_text(out, buffer_slice(&join->error_message));
    buffer_printf(out, ",%lld,%lld,%lld,", (long long)join->input_tokens,
                  (long long)join->output_tokens, (long long)join->gpu_ns);
    results_csv_time(out, join->finished_us);
    buffer_add_byte(out, '\n');
}

void results_join_line(const struct results_join *join, struct buffer *out,
                       enum results_format format)
{
    if (format == RESULTS_CSV)
        write_csv(join, out);
    else
        write_json(join, out);
}
