/*
 * request_fields.h: between request.c, which has the table of fields, and request_prompt.c, which
 * reads those that are more than a number or a flag. Nobody else includes it.
 */
#ifndef MSERVE_PRODUCER_REQUEST_FIELDS_H
#define MSERVE_PRODUCER_REQUEST_FIELDS_H

#include "producer/request.h"

struct request_reader {
    struct arena *arena;
    struct request *request;
    struct request_error *error;
    uint32_t max_completion_tokens; /* 0: not said; stands above max_tokens */
};

/* Reads one field that is neither null nor absent; false with the error filled. */
typedef bool request_field_fn(struct request_reader *reader, const char *name,
                              const struct json *value);

request_field_fn request_read_prompt;   /* prompt of COMPLETIONS */
request_field_fn request_read_input;    /* input of EMBEDDINGS */
request_field_fn request_read_messages; /* messages of CHAT */
request_field_fn request_read_stop;

/* Fills the error and returns false; `param` is a field's name or path. */
bool request_refuse(struct request_reader *reader, const char *code, const char *param,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* "`x` must be a string, not an array." */
bool request_refuse_type(struct request_reader *reader, const char *param, const char *want,
                         const struct json *value);

#endif
