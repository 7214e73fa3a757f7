/*
 * request.h: what one request asks for: the body of a line, checked and taken apart.
 *
 * The same code judges a line when it is submitted and reads it when it is run, so that a worker
 * never meets a body that the submitter let pass and it cannot run. The rule: a field that would
 * change the output and is not implemented is refused, never ignored. Fields are rows of one table
 * per endpoint (request_fields.c); a field that is in no table is refused. null counts as absent.
 *
 * A request lies in the caller's arena and borrows the body's bytes. Pure functions of their
 * arguments; any thread.
 */
#ifndef MSERVE_PRODUCER_REQUEST_H
#define MSERVE_PRODUCER_REQUEST_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/json.h"

#include <stdbool.h>
#include <stdint.h>

enum endpoint { ENDPOINT_COMPLETIONS, ENDPOINT_CHAT, ENDPOINT_EMBEDDINGS, ENDPOINT_COUNT };

/* "/v1/chat/completions" */
const char *endpoint_url(enum endpoint endpoint);
bool endpoint_find(struct slice url, enum endpoint *ret);

enum {
    REQUEST_STOP_MAX = 16,        /* stop strings, as the engine takes them */
    REQUEST_STOP_BYTES_MAX = 256, /* of each */
    REQUEST_PROMPT_IDS_MAX = 1 << 18,
    REQUEST_NODES_MAX = 1 << 19, /* JSON values in a body */
    REQUEST_MESSAGES_MAX = 1 << 16,
    REQUEST_TOKENS_MAX =
        1000000000, /* of max_tokens; the model's context is checked by the worker */
    REQUEST_COMPLETION_TOKENS = 16, /* max_tokens of /v1/completions where nothing is said */
};

enum message_role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_COUNT };

/* "system"; what OpenAI calls "developer" is read as system. */
const char *message_role_name(enum message_role role);

struct request_message {
    enum message_role role;
    struct slice content; /* text parts are joined by newlines; may be empty */
    struct slice name;    /* len 0: none */
};

struct request {
    enum endpoint endpoint;
    struct slice model;

    /* COMPLETIONS and EMBEDDINGS: one prompt, as text or, with prompt_ids_len > 0, as token ids. */
    struct slice prompt;
    uint32_t *prompt_ids;
    uint32_t prompt_ids_len;
    /* CHAT */
    struct request_message *messages;
    uint32_t messages_len;

    uint32_t max_tokens; /* 0: as many as the context holds (CHAT only) */
    double temperature;  /* 0..2, 1 where nothing is said */
    double top_p;        /* above 0, at most 1; 1: off */
    double min_p;        /* 0..1, 0: off */
    uint32_t top_k;      /* 0: off */
    bool has_seed;
    uint64_t seed; /* the bits of the signed number in the body */
    struct slice *stop;
    uint32_t stop_len;
    bool ignore_eos;
    bool include_stop; /* include_stop_str_in_output */
    bool return_token_ids;
    int32_t truncate_prompt; /* truncate_prompt_tokens: 0 off, -1 to what the model holds, k > 0:
                                   the last k tokens are kept */
    bool embedding_base64;   /* encoding_format: little-endian float32 as base64, else numbers */

    uint64_t prompt_bytes; /* of text; a token id counts as 4 */
};

struct request_error {
    const char *code;  /* "unsupported_parameter", "invalid_value", "invalid_type",
                           "missing_required_parameter", "invalid_json" */
    char message[240]; /* one sentence, valid UTF-8 */
    char param[80];    /* "messages[2].content"; "" where no field is to blame */
};

/*
 * Reads and checks a body. ERR_INPUT, not logged, with *error filled when it is refused; *ret is set
 * on success only. The request lives as long as `arena` and `body`.
 */
enum err request_parse(struct arena *arena, struct slice body, enum endpoint endpoint,
                       struct request **ret, struct request_error *error);

/* The same for a body that was parsed as part of its line. */
enum err request_read(struct arena *arena, const struct json *body, enum endpoint endpoint,
                      struct request **ret, struct request_error *error);

/*
 * Estimated work in tokens: prompt bytes / 4 + tokens to generate (256 where nothing is said); at
 * least 1. It orders chunks and is never charged.
 */
uint64_t request_work(const struct request *request);

#endif
