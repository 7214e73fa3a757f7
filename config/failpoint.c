/* failpoint.c: the table of points, the rules read from the environment, and what a hit does. */
#include "config/failpoint.h"

#ifdef MSERVE_FAILPOINTS

#include "config/buffer.h"
#include "config/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 16, SLEEP_MS_MAX = 600000 };

/*
 * The steps of the protocols (docs/architecture.md) in the order in which a request meets them. `told`:
 * the step has somebody who can be told an error.
 */
static const struct point {
    const char *name;
    const char *programs;
    bool told;
    const char *sentence;
} points[] = {
#define TOLD(name, programs, sentence)                                                             \
    {                                                                                              \
        FAILPOINT_PREFIX name, programs, true, sentence                                            \
    }
#define PLACE(name, programs, sentence)                                                            \
    {                                                                                              \
        FAILPOINT_PREFIX name, programs, false, sentence                                           \
    }
    TOLD("job.inserted", "mserve-submit", "the job's row is there"),
    TOLD("produced", "mserve-submit", "a chunk's messages are in the log, and confirmed"),
    TOLD("chunk.row", "mserve-submit", "rows of the index are committed"),
    TOLD("sealed", "mserve-submit", "the job is sealed: accepted"),
    TOLD("registered", "mserve-worker mserve-scheduler", "the worker has its row"),
    TOLD("claim.sent", "mserve-worker mserve-scheduler", "a claim is sent, its reply is unread"),
    TOLD("claim.acked", "mserve-worker mserve-scheduler", "a claim's reply is read"),
    TOLD("range.read", "mserve-worker", "a range of the log is found and read from"),
    TOLD("step", "mserve-worker", "a step of the device is done"),
    TOLD("row.updated", "mserve-worker mserve-scheduler",
         "inside the commit: the worker's own row is locked"),
    TOLD("partitions.locked", "mserve-worker mserve-scheduler",
         "inside the commit: its partitions are locked and its own"),
    TOLD("copied", "mserve-worker mserve-scheduler",
         "the rows are sent, the end of the COPY is not"),
    TOLD("commit.sent", "mserve-worker mserve-scheduler", "COMMIT is sent, its reply is unread"),
    TOLD("acked", "mserve-worker", "the reply to COMMIT is read"),
    TOLD("renewal", "mserve-worker", "the lease is renewed"),
    TOLD("checkpoint", "mserve-worker", "a commit with checkpoints landed"),
    TOLD("drain", "mserve-worker", "the worker has said that it leaves"),
    TOLD("burial", "mserve-worker mserve-scheduler", "a worker is buried"),
    TOLD("deltas.deleted", "mserve-scheduler",
         "inside the fold: deltas are deleted, not yet added"),
    TOLD("fold.committed", "mserve-scheduler", "a fold is committed"),
    TOLD("webhook.claimed", "mserve-scheduler", "deliveries are claimed, none is sent"),
    PLACE("webhook.sent", "mserve-scheduler", "an event is sent, its answer is unread"),
    PLACE("webhook.answered", "mserve-scheduler", "an answer is read, and not recorded"),
    TOLD("webhook.recorded", "mserve-scheduler", "what came of attempts is recorded"),
#undef TOLD
#undef PLACE
};

enum { POINTS = sizeof(points) / sizeof(points[0]) };

static const char *const action_names[] = {
    [FAILPOINT_NONE] = "-",          [FAILPOINT_KILL] = "kill",   [FAILPOINT_STOP] = "stop",
    [FAILPOINT_ABORT] = "abort",     [FAILPOINT_SLEEP] = "sleep", [FAILPOINT_ERROR] = "error",
    [FAILPOINT_TIMEOUT] = "timeout",
};

enum { ACTIONS = sizeof(action_names) / sizeof(action_names[0]) };

struct rule {
    int point;
    enum failpoint_action action;
    uint32_t sleep_ms;
    uint64_t first, last; /* hits */
    double probability;   /* of each of them */
};

static struct rule rules[RULES_MAX];
static int rules_count;
static uint64_t seed_of_all;
static atomic_uint_fast64_t hits[POINTS];
static atomic_uint_fast64_t sequence;
static int log_fd = -1;
static const char *program_name = "?";

static const char *short_name(int point)
{
    return points[point].name + strlen(FAILPOINT_PREFIX);
}

static int find_point(struct slice name)
{
    for (int i = 0; i < POINTS; i++)
        if (strlen(short_name(i)) == name.len && memcmp(short_name(i), name.data, name.len) == 0)
            return i;
    return -1;
}

void failpoint_list(FILE *out)
{
    for (int i = 0; i < POINTS; i++)
        fprintf(out, "%s\t%s\t%s\t%s\n", short_name(i), points[i].programs,
                points[i].told ? "told" : "place", points[i].sentence);
}

/* ---------------------------------------------------------------------------------- the rules ---- */

static enum err refuse_point(struct slice name)
{
    struct buffer list = {0};

    for (int i = 0; i < POINTS; i++)
        buffer_printf(&list, "%s%s", i > 0 ? " " : "", short_name(i));
    fail(ERR_USAGE, "MSERVE_FAILPOINTS: there is no failpoint \"%.*s\"; there are %s",
         (int)name.len, name.data, list.data);
    buffer_release(&list);
    return ERR_USAGE;
}

static enum err refuse_action(struct slice text)
{
    return fail(ERR_USAGE,
                "MSERVE_FAILPOINTS: there is no action \"%.*s\"; there are kill stop abort "
                "sleep(MS) error timeout",
                (int)text.len, text.data);
}

static enum err refuse_when(struct slice text)
{
    return fail(ERR_USAGE, "MSERVE_FAILPOINTS: \"@%.*s\" is no hit; say @N, @N+ or @p(PROBABILITY)",
                (int)text.len, text.data);
}

/* The part of *at before `end`, or all; *at is what follows it. False: `end` was not there. */
static bool cut(struct slice *at, char end, struct slice *ret)
{
    const char *found = at->len > 0 ? memchr(at->data, end, at->len) : NULL;
    size_t len = found ? (size_t)(found - at->data) : at->len;

    *ret = (struct slice){at->data, len};
    at->data += found ? len + 1 : len;
    at->len -= found ? len + 1 : len;
    return found != NULL;
}

static bool parse_number(struct slice text, uint64_t *ret)
{
    uint64_t value = 0;

    if (text.len == 0 || text.len > 18)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret = value;
    return true;
}

/* "p(0.05)" between 0 and 1. */
static bool parse_probability(struct slice text, double *ret)
{
    char copy[32];
    char *end;

    if (text.len < 4 || text.len >= sizeof(copy) || memcmp(text.data, "p(", 2) != 0 ||
        text.data[text.len - 1] != ')')
        return false;
    memcpy(copy, text.data + 2, text.len - 3);
    copy[text.len - 3] = '\0';
    *ret = strtod(copy, &end);
    return *end == '\0' && *ret >= 0 && *ret <= 1;
}

static enum err parse_when(struct slice text, struct rule *rule)
{
    bool open = text.len > 1 && text.data[text.len - 1] == '+';
    struct slice digits = {text.data, text.len - (open ? 1 : 0)};

    if (parse_number(digits, &rule->first) && rule->first > 0) {
        rule->last = open ? UINT64_MAX : rule->first;
        return ERR_OK;
    }
    rule->first = 1;
    return parse_probability(text, &rule->probability) ? ERR_OK : refuse_when(text);
}

static enum err parse_action(struct slice text, struct rule *rule)
{
    uint64_t ms = 0;

    if (text.len > 7 && memcmp(text.data, "sleep(", 6) == 0 && text.data[text.len - 1] == ')') {
        if (!parse_number((struct slice){text.data + 6, text.len - 7}, &ms) || ms > SLEEP_MS_MAX)
            return refuse_action(text);
        rule->action = FAILPOINT_SLEEP;
        rule->sleep_ms = (uint32_t)ms;
        return ERR_OK;
    }
    for (int i = FAILPOINT_KILL; i < ACTIONS; i++) {
        if (i == FAILPOINT_SLEEP || strlen(action_names[i]) != text.len ||
            memcmp(action_names[i], text.data, text.len) != 0)
            continue;
        rule->action = (enum failpoint_action)i;
        return ERR_OK;
    }
    return refuse_action(text);
}

static enum err parse_rule(struct slice text, struct rule *ret)
{
    struct slice name, action;
    enum err rc;

    *ret = (struct rule){.first = 1, .last = UINT64_MAX, .probability = 1};
    if (!cut(&text, '=', &name))
        return fail(ERR_USAGE, "MSERVE_FAILPOINTS: \"%.*s\" is not POINT=ACTION[@WHEN]",
                    (int)name.len, name.data);
    ret->point = find_point(name);
    if (ret->point < 0)
        return refuse_point(name);
    if (cut(&text, '@', &action))
        rc = parse_when(text, ret);
    else
        rc = ERR_OK;
    if (!rc)
        rc = parse_action(action, ret);
    if (!rc && ret->action >= FAILPOINT_ERROR && !points[ret->point].told)
        rc = fail(ERR_USAGE, "MSERVE_FAILPOINTS: nobody can be told of an error at \"%.*s\"",
                  (int)name.len, name.data);
    return rc;
}

static enum err parse_rules(const char *text)
{
    struct slice rest = {text, strlen(text)};

    while (rest.len > 0) {
        struct slice one;
        enum err rc;

        (void)cut(&rest, ';', &one);
        if (one.len == 0)
            continue;
        if (rules_count == RULES_MAX)
            return fail(ERR_USAGE, "MSERVE_FAILPOINTS: more than %d rules", RULES_MAX);
        rc = parse_rule(one, &rules[rules_count]);
        if (rc)
            return rc;
        rules_count++;
    }
    return ERR_OK;
}

/* ------------------------------------------------------------------------------------ the log ---- */

/* Earlier processes that wrote into it have hit so far. */
static void read_log(const char *path)
{
    FILE *file = fopen(path, "r");
    char name[64];
    uint64_t number;

    if (!file)
        return;
    while (fscanf(file, "%*s %*s %*s %63s %" SCNu64 " %*s", name, &number) == 2) {
        int point = find_point((struct slice){name, strlen(name)});

        if (point >= 0 && number > atomic_load(&hits[point]))
            atomic_store(&hits[point], number);
    }
    fclose(file);
}

static void write_log(int point, uint64_t number, enum failpoint_action action)
{
    char line[160];
    int len;

    if (log_fd < 0)
        return;
    len = snprintf(line, sizeof(line), "%" PRIuFAST64 " %d %s %s %" PRIu64 " %s\n",
                   atomic_fetch_add(&sequence, 1) + 1, (int)getpid(), program_name,
                   short_name(point), number, action_names[action]);
    if (write(log_fd, line, (size_t)len) != len)
        log_warn("failpoint.log", "msg=\"a hit could not be written down\"");
}

static enum err open_log(const char *path)
{
    read_log(path);
    log_fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log_fd < 0)
        return fail(ERR_USAGE, "MSERVE_FAILPOINTS_LOG: %s: %s", path, strerror(errno));
    return ERR_OK;
}

/* ------------------------------------------------------------------------------------- start ---- */

enum err failpoint_set(const char *text, const char *log_path, uint64_t seed)
{
    enum err rc;

    rules_count = 0;
    seed_of_all = seed;
    atomic_store(&sequence, 0);
    for (int i = 0; i < POINTS; i++)
        atomic_store(&hits[i], 0);
    if (log_fd >= 0)
        close(log_fd);
    log_fd = -1;
    rc = parse_rules(text ? text : "");
    if (!rc && log_path && log_path[0])
        rc = open_log(log_path);
    return rc;
}

static enum err read_environment(void)
{
    const char *seed_text = getenv("MSERVE_FAILPOINTS_SEED");
    uint64_t seed = 1;

    if (seed_text && !parse_number((struct slice){seed_text, strlen(seed_text)}, &seed))
        return fail(ERR_USAGE, "MSERVE_FAILPOINTS_SEED: \"%s\" is not a number", seed_text);
    return failpoint_set(getenv("MSERVE_FAILPOINTS"), getenv("MSERVE_FAILPOINTS_LOG"), seed);
}

/* A child that its parent starts again and again goes on counting where the last one was struck. */
static void begin_in_child(void)
{
    if (read_environment())
        abort(); /* the parent found it in order */
}

enum err failpoint_start(const char *program)
{
    const char *text = getenv("MSERVE_FAILPOINTS");
    enum err rc;

    program_name = program;
    if (text && strcmp(text, "list") == 0) {
        failpoint_list(stdout);
        exit(fflush(stdout) == 0 ? 0 : err_exit_status(ERR_IO));
    }
    rc = read_environment();
    if (!rc && pthread_atfork(NULL, NULL, begin_in_child) != 0)
        rc = fail(ERR_MEMORY, "pthread_atfork failed");
    return rc;
}

/* ------------------------------------------------------------------------------------- a hit ---- */

/* Uniform in [0, 1), by seed, point and number alone. */
static double chance(int point, uint64_t number)
{
    uint64_t x = seed_of_all * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)point;

    for (int i = 0; i < 2; i++) {
        x += number * UINT64_C(0xd1342543de82ef95) + 1;
        x ^= x >> 30;
        x *= UINT64_C(0xbf58476d1ce4e5b9);
        x ^= x >> 27;
        x *= UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
    }
    return (double)(x >> 11) * 0x1p-53;
}

static const struct rule *rule_for(int point, uint64_t number)
{
    for (int i = 0; i < rules_count; i++) {
        const struct rule *rule = &rules[i];

        if (rule->point == point && number >= rule->first && number <= rule->last &&
            (rule->probability >= 1 || chance(point, number) < rule->probability))
            return rule;
    }
    return NULL;
}

struct failpoint_hit failpoint_take(const char *name)
{
    size_t prefix = strlen(FAILPOINT_PREFIX);
    int point = find_point((struct slice){name + prefix, strlen(name + prefix)});
    struct failpoint_hit hit = {.point = name + prefix};
    const struct rule *rule;

    if (point < 0) {
        log_error("bug", "what=\"this failpoint is not in the table\" point=%s", hit.point);
        abort();
    }
    hit.number = atomic_fetch_add(&hits[point], 1) + 1;
    rule = rule_for(point, hit.number);
    if (rule) {
        hit.action = rule->action;
        hit.sleep_ms = rule->sleep_ms;
    }
    write_log(point, hit.number, hit.action);
    if (rule)
        log_warn("failpoint", "point=%s hit=%" PRIu64 " action=%s", hit.point, hit.number,
                 action_names[hit.action]);
    return hit;
}

static void sleep_for(uint32_t ms)
{
    struct timespec left = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

void failpoint_strike(struct failpoint_hit hit)
{
    switch (hit.action) {
    case FAILPOINT_KILL:
        raise(SIGKILL);
        break;
    case FAILPOINT_STOP:
        raise(SIGSTOP); /* of this thread, which so goes no further before all are stopped */
        break;
    case FAILPOINT_ABORT:
        abort();
    case FAILPOINT_SLEEP:
        sleep_for(hit.sleep_ms);
        break;
    case FAILPOINT_NONE:
    case FAILPOINT_ERROR:
    case FAILPOINT_TIMEOUT:
        break;
    }
}

enum err failpoint_told(struct failpoint_hit hit, enum err err)
{
    failpoint_strike(hit);
    return hit.action == FAILPOINT_ERROR || hit.action == FAILPOINT_TIMEOUT ? err : ERR_OK;
}

enum err failpoint_after(struct failpoint_hit hit, enum err rc, enum err err)
{
    failpoint_strike(hit);
    return hit.action == FAILPOINT_TIMEOUT && !rc ? err : rc;
}

#endif
