/*
 * document_template.h: a request for each part of a document, from a template.
 *
 * A template is the JSON object of a request's body. Inside its strings stand {{document}} (the text of
 * the part), {{path}} and {{part}} ("2/7"; "1/1" where a document is whole). It is checked once, before
 * any document is read: JSON, no other {{…}}, {{document}} at least once, and what it becomes is a body
 * that the endpoint takes (producer/request.h).
 *
 * The endpoint follows from the body where it is not given: `messages`, `prompt` or `input`.
 * Read-only after loading.
 */
#ifndef MSERVE_PRODUCER_DOCUMENT_TEMPLATE_H
#define MSERVE_PRODUCER_DOCUMENT_TEMPLATE_H

#include "config/buffer.h"
#include "config/errors.h"
#include "producer/request.h"

#include <stdint.h>

struct document_template;

/* `endpoint` NULL: as the body says. ERR_USAGE, ERR_INPUT, ERR_IO: one sentence with path and line. */
enum err document_template_load(const char *path, const enum endpoint *endpoint,
                                struct document_template **ret);
void document_template_free(struct document_template *template); /* NULL is allowed */

enum endpoint document_template_endpoint(const struct document_template *template);

/* The value of `model` in the body; {NULL, 0}: none. */
struct slice document_template_model(const struct document_template *template);

/* Bytes of the body, as JSON, that are always the same: what a split must leave room for. */
size_t document_template_bytes(const struct document_template *template);

struct document_part {
    const char *path;
    struct slice text; /* UTF-8 */
    uint32_t part;     /* from 1 */
    uint32_t parts;
};

/* Adds the part's custom_id: the path, of a document in several parts "path#2/7". */
void document_template_id(const struct document_part *part, struct buffer *ret);

/* Adds one line of a batch file, with its newline. */
void document_template_line(const struct document_template *template,
                            const struct document_part *part, struct buffer *ret);

#endif
