/* document_text.c: marks first, then UTF-8, then the encoding that was named, by iconv(3). */
#include "producer/documents/document_text.h"
#include "config/log.h"
#include "config/utf8.h"

#include <errno.h>
#include <iconv.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 64 * 1024 };

struct document_text {
    const char *encoding;
    iconv_t named; /* from `encoding`; (iconv_t)-1: none */
    bool always;   /* ASCII is not itself in it: what looks like UTF-8 is not */
    uint64_t bytes_max;
    struct buffer out;
    char why[240];
};

static const struct mark {
    const char *bytes;
    size_t len;
    const char *encoding; /* NULL: UTF-8 */
} marks[] = {
    /* UTF-32 before UTF-16, whose mark it begins with. */
    {"\xff\xfe\0\0", 4, "UTF-32LE"}, {"\0\0\xfe\xff", 4, "UTF-32BE"}, {"\xef\xbb\xbf", 3, NULL},
    {"\xff\xfe", 2, "UTF-16LE"},     {"\xfe\xff", 2, "UTF-16BE"},
};

static const struct mark *find_mark(struct slice bytes)
{
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
        if (bytes.len >= marks[i].len && memcmp(bytes.data, marks[i].bytes, marks[i].len) == 0)
            return &marks[i];
    return NULL;
}

static enum err refuse(struct document_text *text, const char **ret_why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static enum err refuse(struct document_text *text, const char **ret_why, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(text->why, sizeof(text->why), format, args);
    va_end(args);
    *ret_why = text->why;
    return ERR_INPUT;
}

/* One piece, or with `in` NULL what ends the text. Where it stopped is in *in. */
static enum err convert_piece(struct document_text *text, iconv_t from, char **in, size_t *in_len)
{
    size_t room = PIECE_BYTES;
    char *out = buffer_reserve(&text->out, room);
    size_t rc = iconv(from, in, in_len, &out, &room);

    text->out.len += PIECE_BYTES - room;
    if (text->out.len > text->bytes_max)
        return ERR_LIMIT;
    if (rc != (size_t)-1)
        return ERR_OK;
    return errno == E2BIG ? ERR_AGAIN : ERR_INPUT;
}

/* All of `bytes` into text->out. */
static enum err convert(struct document_text *text, iconv_t from, const char *encoding,
                        struct slice bytes, const char **ret_why)
{
    char *in = (char *)bytes.data; /* iconv does not write there */
    size_t left = bytes.len;
    enum err rc;

    buffer_clear(&text->out);
    iconv(from, NULL, NULL, NULL, NULL);
    do
        rc = convert_piece(text, from, &in, &left);
    while (rc == ERR_AGAIN);
    if (rc == ERR_OK)
        rc = convert_piece(text, from, NULL, NULL);
    if (rc == ERR_LIMIT)
        return refuse(text, ret_why, "has more than %" PRIu64 " bytes as UTF-8", text->bytes_max);
    if (rc != ERR_OK)
        return refuse(text, ret_why, "is not %s: byte %zu means nothing in it", encoding,
                      bytes.len - left + 1);
    return ERR_OK;
}

/* Text with a mark of UTF-16 or UTF-32, which stands before `bytes`. */
static enum err convert_marked(struct document_text *text, const struct mark *mark,
                               struct slice bytes, const char **ret_why)
{
    iconv_t from = iconv_open("UTF-8", mark->encoding);
    enum err rc;

    if (from == (iconv_t)-1)
        return refuse(text, ret_why, "is %s, which this machine cannot read: %s", mark->encoding,
                      strerror(errno));
    rc = convert(text, from, mark->encoding, bytes, ret_why);
    iconv_close(from);
    return rc;
}

/* What looks like no text at all gets no advice about encodings. */
static enum err refuse_plain(struct document_text *text, struct slice bytes, const char **ret_why)
{
    size_t good = utf8_valid_len(bytes);
    const char *nul = bytes.len > 0 ? memchr(bytes.data, '\0', bytes.len) : NULL;

    if (nul != NULL)
        return refuse(text, ret_why, "is no text: byte %zu is NUL", (size_t)(nul - bytes.data) + 1);
    return refuse(text, ret_why,
                  "is not UTF-8: byte %zu is 0x%02x; say what it is with --encoding, like "
                  "--encoding ISO-8859-1",
                  good + 1, (unsigned char)bytes.data[good]);
}

static bool is_text(struct slice bytes)
{
    return bytes.len == 0 || (memchr(bytes.data, '\0', bytes.len) == NULL && utf8_valid(bytes));
}

enum err document_text_read(struct document_text *text, struct slice bytes, struct slice *ret,
                            const char **ret_why)
{
    const struct mark *mark = find_mark(bytes);
    enum err rc = ERR_OK;

    if (mark != NULL) {
        bytes.data += mark->len;
        bytes.len -= mark->len;
    }
    if (mark != NULL && mark->encoding != NULL)
        rc = convert_marked(text, mark, bytes, ret_why);
    else if (mark == NULL && text->named != (iconv_t)-1 && (text->always || !is_text(bytes)))
        rc = convert(text, text->named, text->encoding, bytes, ret_why);
    else
        buffer_clear(&text->out);
    if (rc != ERR_OK)
        return rc;
    if (text->out.len > 0)
        bytes = buffer_slice(&text->out);
    else if (mark != NULL && mark->encoding != NULL)
        bytes.len = 0;
    if (!is_text(bytes))
        return refuse_plain(text, bytes, ret_why);
    *ret = bytes;
    return ERR_OK;
}

/*
 * Whether all of ASCII but NUL is itself in the encoding. Those that shift to other characters and back
 * do so by ASCII bytes, each in its own way: these are tried, too.
 */
static bool holds_ascii(struct document_text *text)
{
    static const char shifts[] = "\x1b$)C\x0e!!\x0f \x1b$B!!\x1b(B ~{!!~} +AOk-";
    char ascii[127 + sizeof(shifts) - 1];
    const char *why;

    for (int i = 0; i < 127; i++)
        ascii[i] = (char)(i + 1);
    memcpy(ascii + 127, shifts, sizeof(shifts) - 1);
    return convert(text, text->named, text->encoding, (struct slice){ascii, sizeof(ascii)}, &why) ==
               ERR_OK &&
           text->out.len == sizeof(ascii) && memcmp(text->out.data, ascii, sizeof(ascii)) == 0;
}

enum err document_text_open(const char *encoding, uint64_t bytes_max, struct document_text **ret)
{
    struct document_text *text = xcalloc(1, sizeof(*text));

    text->encoding = encoding;
    text->named = (iconv_t)-1;
    text->bytes_max = UINT64_MAX;
    if (encoding != NULL && strstr(encoding, "//") == NULL && encoding[0] != '\0')
        text->named = iconv_open("UTF-8", encoding);
    if (encoding != NULL && text->named == (iconv_t)-1) {
        document_text_close(text);
        return fail(ERR_USAGE, "--encoding is \"%s\", which is no encoding; iconv --list has them",
                    encoding);
    }
    text->always = text->named != (iconv_t)-1 && !holds_ascii(text);
    text->bytes_max = bytes_max;
    *ret = text;
    return ERR_OK;
}

void document_text_close(struct document_text *text)
{
    if (text == NULL)
        return;
    if (text->named != (iconv_t)-1)
        iconv_close(text->named);
    buffer_release(&text->out);
    free(text);
}
