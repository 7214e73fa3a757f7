/*
 * submit.h: the whole of mserve-submit but its command line: validate, make or find the job, send
 * what is missing, seal, and, if asked, stay until it has ended.
 */
#ifndef MSERVE_PRODUCER_SUBMIT_H
#define MSERVE_PRODUCER_SUBMIT_H

#include "config/options.h"
#include "producer/cli.h"

#include <stdbool.h>
#include <stdint.h>

struct job;

/* As typed; NULL or 0 where nothing was. */
struct submit_options {
    const char *file; /* "-": standard input; NULL: `documents` */
    const char *documents;
    const char *template;
    struct option_list include, exclude;
    const char *since;
    const char *encoding;
    uint32_t split_tokens; /* 0: documents are not cut */
    uint32_t overlap;
    const char *series;
    bool changed;
    const char *tier;
    bool any_model;
    const char *endpoint;
    const char *window; /* "24h" */
    struct option_pairs metadata;
    const char *idempotency_key;
    bool renew;             /* --new */
    const char *on_invalid; /* "fail" or "skip" */
    const char *priority;
    const char *webhook; /* name or URL of an endpoint */
    bool wait;
    const char *output;
    bool dry_run;
    bool json;

    /* Not typed: what a part of mserve says that submits for somebody (retry.h). */
    const char *input_name;     /* instead of the file's */
    struct slice metadata_json; /* instead of `metadata` */
    /* The job is there, and is not sealed before this is ERR_OK; may be called again. */
    enum err (*on_opened_cb)(void *data, const struct job *job);
    void *data;
};

/* `cli` has its settings. What the job became is the return value (errors.h). */
enum err submit_run(struct cli *cli, const struct submit_options *options);

/* Shows a job that is there, as submit_run() does at its end; of the options wait, output and json count. */
enum err submit_show(struct cli *cli, const struct submit_options *options, const struct uuid *job,
                     const char *tier);

#endif
