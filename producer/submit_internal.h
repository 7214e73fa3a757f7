/*
 * submit_internal.h: between submit.c, which knows the order of things, submit_options.c, which
 * checks what was typed, submit_same.c, which compares it with a job that is there,
 * submit_webhook.c, which knows who hears of it, and submit_report.c, which tells people. Nobody else includes it.
 */
#ifndef MSERVE_PRODUCER_SUBMIT_INTERNAL_H
#define MSERVE_PRODUCER_SUBMIT_INTERNAL_H

#include "producer/progress.h"
#include "producer/publish.h"
#include "producer/scan.h"
#include "producer/submit.h"
#include "producer/submit_documents.h"
#include "producer/submit_series.h"
#include "producer/tiers.h"
#include "sql/job.h"

struct submit {
    struct cli *cli;
    const struct submit_options *options;
    struct progress progress;
    struct arena arena; /* of texts that live until the end */

    /* From the options. */
    bool has_endpoint;
    enum endpoint endpoint;
    const char *window;
    uint64_t window_ms;
    struct slice metadata; /* JSON; {NULL, 0}: none */
    int32_t priority;

    struct tiers tiers;
    const struct tier *tier; /* NULL: no tier answers to any model of the input */
    struct input *input;
    struct submit_documents *documents; /* NULL: the input is a file */
    struct submit_series series;
    struct scan scan;
    struct publisher *publisher;
    struct job job;
    struct uuid webhook; /* with options.webhook */
    bool begun;          /* the job is there */
    bool waited;         /* for PostgreSQL, and said so, before it was */
};

/* Checks the options that need no input; ERR_USAGE with a sentence. */
enum err submit_check_options(struct submit *submit);

/* What the input is called in sentences: as it was typed. */
const char *submit_from(const struct submit *submit);

/* The key of a job that was given none: the same content and options, the same key. */
const char *submit_key(struct submit *submit);

/*
 * After submit->job was opened: ERR_CONFLICT, with a sentence, when it was made by a command with
 * other options, or for another topic than its tier has now.
 */
enum err submit_check_same(struct submit *submit);

/* The endpoint that --webhook names; ERR_NOT_FOUND or ERR_USAGE with a sentence. */
enum err submit_find_webhook(struct submit *submit);

/* After submit->job was opened: that endpoint hears of it; says so where the job keeps another. */
enum err submit_set_webhook(struct submit *submit);

/* Tells which lines are not valid; standard output gets them all with --json. */
enum err submit_report_invalid(struct submit *submit);

/* Tells what a dry run found. */
enum err submit_report_dry(struct submit *submit);

/* Shows the job; with --wait stays until it has ended and writes --output. */
enum err submit_report_job(struct submit *submit);

#endif
