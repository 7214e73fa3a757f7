/*
 * chat.h: from a conversation to a prompt, by a format that is declared as data: what stands before
 * and after a message of each role, and what asks the model to speak. A new format is a row in chat.c.
 */
#ifndef MSERVE_KERNELS_TEXT_CHAT_H
#define MSERVE_KERNELS_TEXT_CHAT_H

#include "config/buffer.h"
#include "config/errors.h"
#include "kernels/text/tokenizer.h"

#include <stdint.h>

struct chat_message {
    struct slice role;
    struct slice content;
};

struct chat_format;

/* The formats there are, from 0; NULL past the last. */
const struct chat_format *chat_format_at(uint32_t index);

/* The format of that name; NULL when there is none. */
const struct chat_format *chat_format_find(struct slice name);

/*
 * The format that a file's tokenizer.chat_template asks for, be it a name or a Jinja template with
 * the sign by which one of the formats is known; else NULL: such a model needs a setting.
 */
const struct chat_format *chat_format_of_template(struct slice text);
const char *chat_format_name(const struct chat_format *format);

/*
 * Appends the prompt, up to where the model speaks. ERR_INPUT, not logged: the format has no role
 * like that of message *ret_bad; `out` is as before.
 */
enum err chat_render(const struct chat_format *format, const struct chat_message *messages,
                     uint32_t len, struct buffer *out, uint32_t *ret_bad);

/* The same as token ids, with the model's begin token; ERR_LIMIT as tokenizer_encode(). */
enum err chat_encode(const struct chat_format *format, const struct tokenizer *tokenizer,
                     const struct chat_message *messages, uint32_t len, uint32_t tokens_max,
                     struct tokens *out, uint32_t *ret_bad);

#endif
