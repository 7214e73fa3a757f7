/*
 * retry_internal.h: between retry.c, which knows the order of things, and the two that fetch lines:
 * retry_log.c and retry_file.c. Nobody else includes it.
 */
#ifndef MSERVE_PRODUCER_RETRY_INTERNAL_H
#define MSERVE_PRODUCER_RETRY_INTERNAL_H

#include "producer/retry.h"
#include "sql/retry.h"

#include <stdio.h>

struct retry {
    struct cli *cli;
    const struct retry_options *options;
    struct arena arena;
    char id[UUID_BATCH_SIZE]; /* of the old job */
    struct retry_source source;
    struct retry_count count;
    const char *key;
    FILE *spool;   /* a file without a name: the lines to be submitted */
    int64_t lines; /* in it */
    struct buffer text;
    int64_t *skipped; /* [skipped_count] lines of the old job that were not valid after all */
    size_t skipped_count, skipped_cap;
};

/* Adds a line behind those before. Lines come in their order. */
enum err retry_add(struct retry *retry, struct slice custom_id, struct slice body);

/* A line of the old job that is left out: it was not valid. */
void retry_skip(struct retry *retry, int64_t line);

/* Adds all lines from the log. ERR_NOT_FOUND, with a sentence: it does not hold them any more. */
enum err retry_from_log(struct retry *retry);

/* The same from a file. ERR_INPUT, with a sentence, when it is another than the one submitted. */
enum err retry_from_file(struct retry *retry, const char *path);

#endif
