/*
 * scan.h: the first reading of a file: every line is judged, and nothing is sent.
 *
 * The input is read in blocks of about 1 MiB that end at line ends. Helper threads judge blocks
 * while the caller's thread reads on; what they found is put together in the order of the file, so
 * the outcome does not depend on how many they are. Memory is a few blocks, however long the file
 * is, as long as its lines are short; a long line (up to line_bytes_max) takes what it needs.
 */
#ifndef MSERVE_PRODUCER_SCAN_H
#define MSERVE_PRODUCER_SCAN_H

#include "producer/input.h"
#include "producer/line.h"
#include "producer/line_index.h"

#include <stdbool.h>
#include <stdint.h>

/* Called on the caller's thread now and then. */
typedef void scan_progress_fn(void *data, uint64_t bytes, uint64_t requests);

struct scan_options {
    struct line_rules rules;
    uint64_t line_bytes_max;
    const char *spool_dir;
    uint32_t threads;                 /* that judge, the caller's included; 0: one a core */
    scan_progress_fn *on_progress_cb; /* may be NULL */
    void *data;
};

struct scan {
    struct line_index *index;
    uint64_t requests; /* lines that are not blank */
    uint64_t blanks;
    uint64_t work;      /* of the valid ones */
    uint8_t sha256[32]; /* of all bytes of the input, unpacked */
    char *model;        /* what all valid lines name, NUL-terminated; NULL where they differ */
};

/*
 * Judges the whole input. Lines that are not valid are no error of this function: they stand in the
 * index (line_index_invalid()). *ret is the caller's to release.
 */
enum err scan_run(struct input *input, const struct scan_options *options, struct scan *ret);
void scan_release(struct scan *scan);

/* What the job's endpoint and tier are taken from. */
struct scan_first {
    bool has_endpoint;
    enum endpoint endpoint;
    char *model; /* NUL-terminated, the caller's to free; NULL: no line names one */
};

/*
 * Looks through the input for the first line that is valid by `options->rules`; where there is none,
 * *ret has the first url and the first model that could be read.
 */
enum err scan_find_first(struct input *input, const struct scan_options *options,
                         struct scan_first *ret);

#endif
