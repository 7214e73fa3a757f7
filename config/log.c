/* log.c: formats a line in the caller's stack and writes it at once. */
#include "config/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config/utf8.h"

enum { LINE_BYTES_MAX = 4096 };

static const char *log_program = "mserve";
static _Atomic int log_level_now = LOG_INFO;
static enum log_format log_format_now = LOG_LOGFMT;
static bool log_plain;
static bool log_hushed;
static char *log_caught; /* NULL: it is not */
static size_t log_caught_size;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* A line under construction: `len` never passes `size` - 2, which keeps room for the newline. */
struct line {
    char text[LINE_BYTES_MAX];
    size_t len;
};

void log_init(const char *program, enum log_level level, enum log_format format, bool plain)
{
    log_program = program;
    log_format_now = format;
    log_plain = plain;
    atomic_store(&log_level_now, (int)level);
}

void log_hush(bool hushed)
{
    log_hushed = hushed;
}

void log_catch(char *out, size_t size)
{
    log_caught = out;
    log_caught_size = size;
}

bool log_enabled(enum log_level level)
{
    return !log_hushed && log_caught == NULL &&
           (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

static void put(struct line *line, char c)
{
    if (line->len < sizeof(line->text) - 2)
        line->text[line->len++] = c;
}

static void put_text(struct line *line, const char *text)
{
    for (; *text != '\0'; text++)
        put(line, *text);
}

/*
 * One character of a text, escaped where it would break a logfmt line or a JSON string, or a terminal
 * would obey it. Returns what follows it.
 */
static const char *put_escaped(struct line *line, const char *text, bool in_quotes)
{
    uint32_t character;
    char escape[8];
    size_t len;

    if (in_quotes && (*text == '"' || *text == '\\')) {
        put(line, '\\');
        put(line, *text);
        return text + 1;
    }
    if (utf8_is_shown((struct slice){text, strnlen(text, 4)}, &character, &len)) {
        for (size_t i = 0; i < len; i++)
            put(line, text[i]);
    } else if (character == '\n') {
        put_text(line, "\\n");
    } else {
        snprintf(escape, sizeof(escape), "\\u%04x", (unsigned)character & 0xffff);
        put_text(line, escape);
    }
    return text + len;
}

static void put_time(struct line *line)
{
    struct timespec now;
    struct tm tm;
    char text[48];
    int used;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    used =
        snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ", tm.tm_year + 1900,
                 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000);
    if (used > 0)
        put_text(line, text);
}

/* `key=value key="quoted value"` becomes `,"key":"value",…`; what is no pair becomes part of msg. */
static void put_pairs_as_json(struct line *line, const char *pairs)
{
    const char *at = pairs;

    while (*at != '\0') {
        const char *key = at;
        bool quoted;

        at += strcspn(at, "= ");
        if (*at != '=') {
            at += strspn(at, " ");
            continue;
        }
        put_text(line, ",\"");
        while (key < at)
            key = put_escaped(line, key, true);
        put_text(line, "\":\"");
        at++;
        quoted = *at == '"';
        if (quoted)
            at++;
        while (*at != '\0' && *at != (quoted ? '"' : ' ')) {
            if (quoted && *at == '\\' && at[1] != '\0') {
                put(line, *at++); /* already escaped by log_quote() */
                put(line, *at++);
            } else {
                at = put_escaped(line, at, !quoted);
            }
        }
        put(line, '"');
        if (quoted && *at == '"')
            at++;
        at += strspn(at, " ");
    }
}

static void write_line(struct line *line)
{
    ssize_t written;

    line->text[line->len++] = '\n';
    written = write(STDERR_FILENO, line->text, line->len);
    (void)written; /* nowhere is left to say so */
}

static void write_event(enum log_level level, const char *event, const char *pairs)
{
    struct line line = {.len = 0};

    if (log_format_now == LOG_JSON) {
        put_text(&line, "{\"ts\":\"");
        put_time(&line);
        put_text(&line, "\",\"level\":\"");
        put_text(&line, level_names[level]);
        put_text(&line, "\",\"prog\":\"");
        put_text(&line, log_program);
        put_text(&line, "\",\"event\":\"");
        put_text(&line, event);
        put(&line, '"');
        put_pairs_as_json(&line, pairs);
        put(&line, '}');
    } else {
        put_text(&line, "ts=");
        put_time(&line);
        put_text(&line, " level=");
        put_text(&line, level_names[level]);
        put_text(&line, " prog=");
        put_text(&line, log_program);
        put_text(&line, " event=");
        put_text(&line, event);
        if (*pairs != '\0')
            put(&line, ' ');
        while (*pairs != '\0')
            pairs = put_escaped(&line, pairs, false);
    }
    write_line(&line);
}

static void write_plain(const char *sentence)
{
    struct line line = {.len = 0};

    put_text(&line, log_program);
    put_text(&line, ": ");
    while (*sentence != '\0')
        sentence = put_escaped(&line, sentence, false);
    write_line(&line);
}

void log_line(enum log_level level, const char *event, const char *format, ...)
{
    char pairs[LINE_BYTES_MAX / 2];
    va_list args;
    int used;

    if (!log_enabled(level) || (log_plain && level > LOG_WARN))
        return;

    va_start(args, format);
    used = vsnprintf(pairs, sizeof(pairs), format, args);
    va_end(args);
    if (used < 0)
        pairs[0] = '\0';
    if (log_plain)
        write_plain(pairs);
    else
        write_event(level, event, pairs);
}

enum err fail(enum err err, const char *format, ...)
{
    char sentence[LINE_BYTES_MAX / 4];
    char quoted[LINE_BYTES_MAX / 3];
    va_list args;
    int used;

    va_start(args, format);
    used = vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    if (used < 0)
        sentence[0] = '\0';
    if (log_caught != NULL && log_caught[0] == '\0')
        snprintf(log_caught, log_caught_size, "%s", sentence);
    if (log_hushed || log_caught != NULL)
        return err;
    if (log_plain)
        write_plain(sentence);
    else
        log_line(LOG_ERROR, "fail", "code=%s retry=%s msg=%s", err_name(err),
                 err_may_retry(err) ? "yes" : "no", log_quote(quoted, sizeof(quoted), sentence));
    return err;
}

const char *log_quote(char *out, size_t size, const char *text)
{
    struct line line = {.len = 0};
    size_t len;

    put(&line, '"');
    while (*text != '\0' && line.len + 8 < size)
        text = put_escaped(&line, text, true);
    put(&line, '"');
    len = line.len < size ? line.len : size - 1;
    memcpy(out, line.text, len);
    out[len] = '\0';
    return out;
}
