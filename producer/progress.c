/* progress.c: a bar, a share, a note, and the time that is left. */
#include "producer/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    DRAW_EVERY_MS = 100,
    SAY_EVERY_MS = 10000,
    BAR_CELLS = 24,
    MS = 1000000,
};

static void init(struct progress *progress, FILE *out, uint64_t every_ms)
{
    struct winsize size;

    *progress =
        (struct progress){.out = out, .mode = PROGRESS_PLAIN, .every_ms = every_ms, .width = 80};
    if (isatty(fileno(out))) {
        progress->mode = PROGRESS_TERMINAL;
        if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20)
            progress->width = size.ws_col;
    }
}

void progress_init(struct progress *progress, bool quiet)
{
    init(progress, stderr, SAY_EVERY_MS);
    if (quiet)
        progress->mode = PROGRESS_NONE;
}

void progress_init_out(struct progress *progress, uint64_t every_ms)
{
    init(progress, stdout, every_ms);
}

const char *progress_number(uint64_t value, char out[32])
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    int at = 0;

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

static void write_left(char *out, size_t size, const struct progress *progress, uint64_t done,
                       uint64_t total, uint64_t now_ns)
{
    double elapsed_s = (double)(now_ns - progress->phase_began_ns) / 1e9;
    uint64_t left_s;

    out[0] = '\0';
    if (done == 0 || total == 0 || done >= total || elapsed_s < 2)
        return;
    left_s = (uint64_t)(elapsed_s * (double)(total - done) / (double)done);
    if (left_s >= 3600)
        snprintf(out, size, ", %" PRIu64 "h%02" PRIu64 "m left", left_s / 3600, left_s / 60 % 60);
    else
        snprintf(out, size, ", %" PRIu64 ":%02" PRIu64 " left", left_s / 60, left_s % 60);
}

static void draw(struct progress *progress, uint64_t done, uint64_t total, const char *note,
                 uint64_t now_ns)
{
    char bar[BAR_CELLS * 3 + 1] = "", left[40], line[512];
    unsigned cells = total > 0 ? (unsigned)((double)BAR_CELLS * (double)done / (double)total) : 0;
    int head = 0;

    for (unsigned i = 0; i < BAR_CELLS; i++)
        strcat(bar, i < cells ? "█" : "░");
    write_left(left, sizeof(left), progress, done, total, now_ns);
    if (total > 0)
        head = snprintf(line, sizeof(line), "%-9s", progress->phase);
    if (total > 0)
        snprintf(line + head, sizeof(line) - (size_t)head, " %3u%%  %s%s",
                 (unsigned)(100 * (double)done / (double)total), note, left);
    else
        snprintf(line, sizeof(line), "%-9s %s", progress->phase, note);
    line[progress->width < 500 ? progress->width : 500] = '\0';
    if (total > 0 && (size_t)progress->width >= strlen(line) + BAR_CELLS + 2)
        fprintf(progress->out, "\r\033[K%.*s %s%s", head, line, bar, line + head);
    else
        fprintf(progress->out, "\r\033[K%s", line);
    fflush(progress->out);
    progress->drawn = true;
}

static void say(const struct progress *progress, uint64_t done, uint64_t total, const char *note)
{
    if (total > 0)
        fprintf(progress->out, "%s: %u%%, %s\n", progress->phase,
                (unsigned)(100 * (double)done / (double)total), note);
    else
        fprintf(progress->out, "%s: %s\n", progress->phase, note);
    fflush(progress->out);
}

void progress_show(struct progress *progress, const char *phase, uint64_t done, uint64_t total,
                   const char *note, uint64_t now_ns)
{
    uint64_t every_ms = progress->mode == PROGRESS_TERMINAL ? DRAW_EVERY_MS : progress->every_ms;

    if (progress->phase == NULL || strcmp(progress->phase, phase) != 0) {
        progress->phase = phase;
        progress->phase_began_ns = progress->drawn_ns = now_ns;
        if (progress->out != stdout)
            return;
    } else if (now_ns - progress->drawn_ns < every_ms * MS) {
        return;
    }
    if (progress->mode == PROGRESS_NONE)
        return;
    progress->drawn_ns = now_ns;
    if (progress->mode == PROGRESS_TERMINAL)
        draw(progress, done, total, note, now_ns);
    else
        say(progress, done, total, note);
}

void progress_wipe(struct progress *progress)
{
    if (progress->drawn)
        fprintf(progress->out, "\r\033[K");
    progress->drawn = false;
}
