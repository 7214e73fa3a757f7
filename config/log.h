/*
 * log.h: one line a fact, on standard error: `ts=… level=info prog=mserve-worker event=job.done
 * job=… requests=12`, or the same as a JSON object.
 *
 * The event comes first ("noun.verb"), then key=value pairs through a printf format that the caller
 * writes: log_info("job.done", "job=%s requests=%u", id, n). In the logfmt form the pairs are
 * printed as they are, so a value that may hold blanks is written with key=%s and log_quote().
 * In the JSON form each pair becomes a string member. Control characters are escaped, so that no
 * prompt can forge a line. Prompts and results are never logged.
 *
 * Thread-safe: a line is formatted in the caller and written with one write(2).
 */
#ifndef MSERVE_CONFIG_LOG_H
#define MSERVE_CONFIG_LOG_H

#include "config/errors.h"

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

/*
 * Sets what the following lines look like. `program` is kept by reference. With
 * `plain` set, errors are printed as a person reads them ("mserve-submit: sentence"), and
 * info and debug are silent: the form of the command line programs.
 */
void log_init(const char *program, enum log_level level, enum log_format format, bool plain);

/*
 * While it is hushed nothing is written: for a program that tries something again and again, and has
 * said so once. For one thread, and in command line programs only.
 */
void log_hush(bool hushed);

/*
 * While it is caught, nothing is written either, and the first sentence of fail() lands in `out`, cut at
 * size - 1. NULL ends it. For one thread, in command line programs only.
 */
void log_catch(char *out, size_t size);

/* True when a line of this level would be written: guards costly arguments. */
bool log_enabled(enum log_level level);

void log_line(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_DEBUG))                                                                \
            log_line(LOG_DEBUG, __VA_ARGS__);                                                      \
    } while (0)

/*
 * Logs `fail code=IO retry=yes msg="…"` and returns `err`, so that a leaf can say
 * `return fail(ERR_IO, "checkpoint %s: fdatasync: %s", path, strerror(errno));`. The sentence is
 * for a person: what failed, on what, and what to do next.
 */
enum err fail(enum err err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Writes `text` between quotes with `"`, `\` and control characters escaped, cut at `size` - 1.
 * Returns `out`: usable as a printf argument.
 */
const char *log_quote(char *out, size_t size, const char *text);

#endif
