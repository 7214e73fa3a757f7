/*
 * progress.h: what a person sees while something takes long: one line that is drawn again on a
 * terminal, a plain line now and then where standard error is a file, nothing when asked.
 *
 * Goes to standard error, but for progress_init_out(). One thread.
 */
#ifndef MSERVE_PRODUCER_PROGRESS_H
#define MSERVE_PRODUCER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum progress_mode { PROGRESS_NONE, PROGRESS_PLAIN, PROGRESS_TERMINAL };

struct progress {
    FILE *out;
    enum progress_mode mode;
    uint64_t every_ms; /* lines elsewhere than on a terminal */
    const char *phase; /* of the line that is drawn */
    uint64_t phase_began_ns;
    uint64_t drawn_ns;
    bool drawn; /* there is a line to be wiped */
    int width;
};

/* `quiet`: nothing at all. */
void progress_init(struct progress *progress, bool quiet);

/*
 * Where progress is what was asked for: to standard output; in a pipe a line at the beginning of each
 * phase, and each `every_ms`.
 */
void progress_init_out(struct progress *progress, uint64_t every_ms);

/*
 * `done` of `total` (0: unknown) units; `note` is printed behind ("12,345 lines"). Draws at most
 * ten times a second, on a terminal, and a line each ten seconds elsewhere.
 */
void progress_show(struct progress *progress, const char *phase, uint64_t done, uint64_t total,
                   const char *note, uint64_t now_ns);

/* Wipes the line, so that something else can be printed. */
void progress_wipe(struct progress *progress);

/* "1,234,567" in `out`; returns `out`. */
const char *progress_number(uint64_t value, char out[32]);

#endif
