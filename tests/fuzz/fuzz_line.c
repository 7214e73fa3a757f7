/*
 * fuzz_line.c: whatever the bytes of a line are, they are refused with a code and a sentence, or
 * they are a request whose parts lie in the line; and what the submitter let pass, the worker can
 * read from the body alone, with the same work.
 */
#include "config/utf8.h"
#include "producer/line.h"
#include "producer/message.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_refusal(const struct request_error *error)
{
    must(error->code != NULL && error->code[0] != '\0' && error->message[0] != '\0');
    must(strlen(error->message) < sizeof(error->message));
    must(strlen(error->param) < sizeof(error->param));
}

static bool lies_in(struct slice part, struct slice text)
{
    return part.len == 0 ||
           (part.data >= text.data && part.data + part.len <= text.data + text.len);
}

static void check_line(struct arena *arena, const struct line *line, struct slice text)
{
    struct request *request;
    struct request_error error;

    must(line->custom_id.len >= 1 && line->custom_id.len <= MESSAGE_CUSTOM_ID_BYTES_MAX);
    must(memchr(line->custom_id.data, 0, line->custom_id.len) == NULL);
    must(utf8_valid(line->custom_id));
    must(lies_in(line->custom_id_raw, text) && lies_in(line->body, text));
    must(line->body.len >= 2 && line->body.data[0] == '{');
    must(line->model.len > 0);
    must(request_parse(arena, line->body, line->endpoint, &request, &error) == ERR_OK);
    must(request_work(request) == line->work);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct line_rules rules = {.has_endpoint = false};
    struct slice text = {(const char *)data, size};
    struct request_error error = {0};
    struct arena arena = {0};
    struct line line;

    if (line_read(&arena, &rules, text, &line, &error) == ERR_OK) {
        check_line(&arena, &line, text);
    } else {
        check_refusal(&error);
        must(line.custom_id.len <= MESSAGE_CUSTOM_ID_BYTES_MAX);
    }
    arena_release(&arena);
    return 0;
}
