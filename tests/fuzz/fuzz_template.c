/*
 * fuzz_template.c: whatever the bytes of a template are, they are refused with a sentence, or each
 * document becomes one line that mserve-submit takes, with the body that the worker reads. A document
 * itself, which is what follows the first NUL, never becomes anything but text.
 */
#include "config/log.h"
#include "config/utf8.h"
#include "producer/documents/document_template.h"
#include "producer/documents/document_text.h"
#include "producer/line.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* Templates are files: this one has no name but its descriptor's. */
static enum err load(struct slice text, struct document_template **ret)
{
    int fd = memfd_create("template", 0);
    char path[64], said[1024] = "";
    enum err rc;

    must(fd >= 0 && write(fd, text.data, text.len) == (ssize_t)text.len);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    log_catch(said, sizeof(said));
    rc = document_template_load(path, NULL, ret);
    log_catch(NULL, 0);
    close(fd);
    must(rc == ERR_OK || (rc == ERR_INPUT && said[0] != '\0'));
    return rc;
}

static void check_line(const struct document_template *template, struct slice document,
                       uint32_t parts)
{
    const struct document_part part = {"a \"b\"/\xc3\xa9\\n", document, parts, parts};
    const struct line_rules rules = {.has_endpoint = true,
                                     .endpoint = document_template_endpoint(template)};
    struct request_error error = {0};
    struct buffer text = {0};
    struct arena arena = {0};
    struct line line;

    document_template_line(template, &part, &text);
    must(memchr(text.data, '\n', text.len) == text.data + text.len - 1);
    text.len--;
    must(utf8_valid(buffer_slice(&text)));
    /* What an endpoint refuses of a document, as an empty one, is its own matter: it is JSON. */
    if (line_read(&arena, &rules, buffer_slice(&text), &line, &error) == ERR_OK)
        must(line.model.len == document_template_model(template).len);
    else
        must(strcmp(error.code, "invalid_json_line") != 0 &&
             strcmp(error.code, "invalid_utf8") != 0);
    arena_release(&arena);
    buffer_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    size_t len = size > 0 && memchr(data, 0, size) != NULL ? strlen(text) : size;
    struct slice bytes = {text + len, size > len ? size - len : 0}, document = SLICE("");
    struct document_template *template = NULL;
    struct document_text *reader;
    const char *why = NULL;

    if (bytes.len > 0) {
        bytes.data++;
        bytes.len--;
    }
    must(document_text_open("EUC-JP", 1 << 20, &reader) == ERR_OK);
    if (document_text_read(reader, bytes, &document, &why) != ERR_OK) {
        must(why != NULL && why[0] != '\0');
        document = SLICE("text");
    }
    must(utf8_valid(document) &&
         (document.len == 0 || memchr(document.data, 0, document.len) == NULL));
    if (load((struct slice){text, len}, &template) == ERR_OK) {
        check_line(template, document, 1);
        check_line(template, document, 12);
    }
    document_template_free(template);
    document_text_close(reader);
    return 0;
}
