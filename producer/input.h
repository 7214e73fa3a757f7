/*
 * input.h: the file to be submitted, as bytes that can be read twice.
 *
 * A plain file is read where it lies. Standard input ("-"), pipes and zstd (known by its first
 * bytes, not by its name) are first written, unpacked, to a file without a name in spool_dir, so
 * that everything can be validated before anything is sent. Of a line that is longer than
 * line_bytes_max the spool keeps just enough to show that: it is a bad line either way, and a few
 * packed bytes may unpack to any length. A line of 64 times that is given up as no line at all.
 *
 * ERRORS, all logged with a sentence: ERR_NOT_FOUND, ERR_DENIED, ERR_INPUT (not a file, broken
 * zstd), ERR_IO (disk full), ERR_INTERRUPTED. One thread opens; input_read() is for any thread, as
 * long as the input is spooled or the file stays.
 */
#ifndef MSERVE_PRODUCER_INPUT_H
#define MSERVE_PRODUCER_INPUT_H

#include "config/errors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct input;

/* Called now and then while an input is spooled, with the bytes unpacked so far. */
typedef void input_progress_fn(void *data, uint64_t bytes);

struct input_spool {
    const char *dir; /* borrowed for the input's life */
    uint64_t line_bytes_max;
    input_progress_fn *on_progress_cb; /* may be NULL */
    void *data;
};

/* Finds the file, and reads no more of it than its first bytes. *ret is the caller's to close. */
enum err input_open(const char *path, struct input **ret);

/* Makes it readable, once, before anything below is called: a plain file needs nothing. */
enum err input_spool(struct input *input, const struct input_spool *options);

/*
 * An empty input, to be filled by whoever makes its lines. `name` is copied; `dir` is where the spool
 * goes, borrowed.
 */
struct input *input_new(const char *name, const char *dir);

/* Adds whole lines, none of them too long, before anything below is called. */
enum err input_add(struct input *input, const char *lines, size_t len);

void input_close(struct input *input); /* NULL is allowed */

uint64_t input_size(const struct input *input);    /* bytes, unpacked */
const char *input_name(const struct input *input); /* the file's name without folders, or "-" */

/* Reads `len` bytes at `at`, or fewer at the end of the input; *ret_len says how many. */
enum err input_read(struct input *input, uint64_t at, void *ret, size_t len, size_t *ret_len);

/* True when that is the very file that is read: writing there would destroy it. */
bool input_is(const struct input *input, const struct stat *file);

/* ERR_INPUT, with a sentence, when the file was written to since it was opened. */
enum err input_check_unchanged(const struct input *input);

#endif
