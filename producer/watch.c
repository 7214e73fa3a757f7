/* watch.c: the oldest sight within the window against the newest. */
#include "producer/watch.h"

#include "producer/progress.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { RATE_MS_MIN = 1000, MS = 1000000 };

static bool went_back(const struct job_progress *was, const struct job_progress *is)
{
    return is->completed < was->completed || is->failed < was->failed ||
           is->cancelled < was->cancelled || is->expired < was->expired ||
           is->input_tokens < was->input_tokens || is->output_tokens < was->output_tokens ||
           is->device_ns < was->device_ns || (was->lines >= 0 && is->lines != was->lines);
}

/* Keeps the newest sight that is older than the window, and all after it. */
static void forget_old(struct watch *watch, uint64_t now_ns)
{
    uint32_t drop = 0;

    while (drop + 1 < watch->count &&
           now_ns - watch->sight[drop + 1].at_ns >= (uint64_t)WATCH_WINDOW_MS * MS)
        drop++;
    if (drop == 0 && watch->count == WATCH_SIGHTS)
        drop = 1;
    watch->count -= drop;
    memmove(watch->sight, watch->sight + drop, watch->count * sizeof(watch->sight[0]));
}

bool watch_see(struct watch *watch, const struct job_progress *progress, uint64_t now_ns)
{
    bool back = watch->count > 0 && went_back(&watch->last, progress);
    int64_t offered_ns = 0;

    if (back)
        watch->count = 0;
    if (watch->count > 0) {
        const struct watch_sight *last = &watch->sight[watch->count - 1];

        offered_ns = last->offered_ns + (int64_t)(now_ns - last->at_ns) * watch->last.devices;
    }
    forget_old(watch, now_ns);
    watch->sight[watch->count++] = (struct watch_sight){
        .at_ns = now_ns,
        .tokens = progress->input_tokens + progress->output_tokens,
        .device_ns = progress->device_ns,
        .offered_ns = offered_ns,
    };
    watch->last = *progress;
    return !back;
}

/* The window's length in seconds; 0: too short to say anything. */
static double window_s(const struct watch *watch)
{
    uint64_t ns;

    if (watch->count < 2)
        return 0;
    ns = watch->sight[watch->count - 1].at_ns - watch->sight[0].at_ns;
    return ns < (uint64_t)RATE_MS_MIN * MS ? 0 : (double)ns / 1e9;
}

double watch_tokens_per_s(const struct watch *watch)
{
    double seconds = window_s(watch);

    if (seconds == 0)
        return -1;
    return (double)(watch->sight[watch->count - 1].tokens - watch->sight[0].tokens) / seconds;
}

/* Books are closed by the commit, so a short window may hold more than its own time. */
double watch_share(const struct watch *watch)
{
    const struct watch_sight *first = &watch->sight[0], *last;
    double share;

    if (window_s(watch) == 0)
        return -1;
    last = &watch->sight[watch->count - 1];
    if (last->offered_ns == first->offered_ns)
        return -1;
    share = (double)(last->device_ns - first->device_ns) /
            (double)(last->offered_ns - first->offered_ns);
    return share < 1 ? share : 1;
}

static void add(char out[WATCH_LINE_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void add(char out[WATCH_LINE_SIZE], const char *format, ...)
{
    size_t len = strlen(out);
    va_list args;

    va_start(args, format);
    vsnprintf(out + len, WATCH_LINE_SIZE - len, format, args);
    va_end(args);
}

static void add_outcomes(char out[WATCH_LINE_SIZE], const struct job_progress *progress)
{
    const struct {
        int64_t count;
        const char *name;
    } outcome[] = {{progress->failed, "failed"},
                   {progress->cancelled, "cancelled"},
                   {progress->expired, "expired"}};
    const char *before = " (";
    char number[32];

    for (size_t i = 0; i < sizeof(outcome) / sizeof(outcome[0]); i++) {
        if (outcome[i].count == 0)
            continue;
        add(out, "%s%s %s", before, progress_number((uint64_t)outcome[i].count, number),
            outcome[i].name);
        before = ", ";
    }
    if (before[0] == ',')
        add(out, ")");
}

const char *watch_line(const struct watch *watch, char out[WATCH_LINE_SIZE])
{
    const struct job_progress *progress = &watch->last;
    double rate = watch_tokens_per_s(watch), share = watch_share(watch);
    char number[32];

    out[0] = '\0';
    add(out, "%s", progress_number((uint64_t)progress->done, number));
    if (progress->lines >= 0)
        add(out, " of %s", progress_number((uint64_t)progress->lines, number));
    add(out, " requests");
    add_outcomes(out, progress);
    if (rate >= 0)
        add(out, ", %s tokens/s", progress_number((uint64_t)(rate + 0.5), number));
    if (progress->devices == 0)
        add(out, ", no worker");
    else if (share >= 0)
        add(out, ", %.0f%% of %" PRId64 " device%s", 100 * share, progress->devices,
            progress->devices == 1 ? "" : "s");
    if (progress->charged[0] != '\0')
        add(out, ", %s", progress->charged);
    return out;
}
