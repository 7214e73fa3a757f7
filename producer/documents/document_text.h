/*
 * document_text.h: the bytes of a document as UTF-8 text.
 *
 * A byte order mark says what it is (UTF-8, UTF-16, UTF-32) and is taken off. Without one it is UTF-8
 * without NUL bytes, or it is in the encoding that was named. Conversion is strict: bytes that mean
 * nothing in the encoding, or that are cut off, are an error and never left out.
 *
 * One thread.
 */
#ifndef MSERVE_PRODUCER_DOCUMENT_TEXT_H
#define MSERVE_PRODUCER_DOCUMENT_TEXT_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdint.h>

struct document_text;

/*
 * `encoding` as iconv(1) has them; NULL: none. ERR_USAGE, with a sentence, when nobody knows it.
 * bytes_max is of the text.
 */
enum err document_text_open(const char *encoding, uint64_t bytes_max, struct document_text **ret);
void document_text_close(struct document_text *text); /* NULL is allowed */

/*
 * *ret points into `bytes` or into the converter, until its next use. ERR_INPUT, not logged, with
 * *ret_why the rest of a sentence that begins with the document's name.
 */
enum err document_text_read(struct document_text *text, struct slice bytes, struct slice *ret,
                            const char **ret_why);

#endif
