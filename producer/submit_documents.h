/*
 * submit_documents.h: the input of a job made from documents: each becomes a line, or a line for each
 * of its parts, in a spool that is then read as any other input is. So the same documents are the same
 * content and the same job.
 *
 * Between submit.c and the parts of --documents; one thread.
 */
#ifndef MSERVE_PRODUCER_SUBMIT_DOCUMENTS_H
#define MSERVE_PRODUCER_SUBMIT_DOCUMENTS_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/sha256.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct submit;

/* A document and the lines that it became. */
struct submit_document {
    const char *path;
    uint8_t sha256[SHA256_BYTES]; /* of its bytes as they were read */
    uint64_t first_line;          /* from 0; there are no blank lines */
    uint32_t parts;               /* lines, at least 1 */
};

struct submit_documents {
    struct documents *source;
    struct document_template *template;
    struct document_splitter *splitter;
    struct submit_document *item; /* [count], by first_line; valid until it is closed */
    uint64_t count, cap;
    uint64_t lines;
    uint64_t refused;
    struct arena arena;   /* of the paths */
    struct buffer buffer; /* the lines of one document */
};

/*
 * Reads the template and finds the documents, and makes submit->input, which is empty. The endpoint is
 * the template's from then on. Errors as in documents.h and document_template.h.
 */
enum err submit_documents_open(struct submit *submit);

/*
 * Fills submit->input. ERR_INPUT, when documents cannot be taken and --on-invalid is not skip: all were
 * told.
 */
enum err submit_documents_read(struct submit *submit);

/* Says that there is nothing to do, where no document was selected: that is no failure. */
enum err submit_documents_say_none(const struct submit *submit);

/* The document that a request, counted from 0, is a part of. */
const char *submit_documents_path(const struct submit_documents *documents, uint64_t request);

/* True when that is what the documents are read from, or the template. */
bool submit_documents_reads(const struct submit *submit, const struct stat *file);

void submit_documents_close(struct submit_documents *documents); /* NULL is allowed */

#endif
