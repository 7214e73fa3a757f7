/* notice_parse.c: times first, then a function for each of those who give notice. */
#include "consumer/notice_parse.h"

#include <string.h>
#include <time.h>

#include "config/json.h"
#include "config/units.h"

enum { LEFT_MS_MAX = 24 * 3600 * 1000, NODES_MAX = 20000 };

/* -------------------------------------------------------------------------------------- times ---- */

/* What is left to read of a text. */
struct reader {
    const char *at;
    const char *end;
    bool good; /* all was there so far */
};

static int read_number(struct reader *reader, int digits)
{
    int value = 0;

    for (int i = 0; i < digits; i++) {
        if (!reader->good || reader->at == reader->end || *reader->at < '0' || *reader->at > '9') {
            reader->good = false;
            return 0;
        }
        value = value * 10 + (*reader->at++ - '0');
    }
    return value;
}

static void read_literal(struct reader *reader, const char *literal)
{
    size_t len = strlen(literal);

    if ((size_t)(reader->end - reader->at) < len || memcmp(reader->at, literal, len) != 0)
        reader->good = false;
    else
        reader->at += len;
}

static bool next_is(const struct reader *reader, char byte)
{
    return reader->at < reader->end && *reader->at == byte;
}

/* False for a 30th of February and the like; a leap second counts as the second before. */
static bool make_ms(struct tm tm, int offset_s, uint64_t *ret_ms)
{
    struct tm same;
    time_t seconds;

    if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
        return false;
    if (tm.tm_sec == 60)
        tm.tm_sec = 59;
    same = tm;
    seconds = timegm(&same);
    if (same.tm_mday != tm.tm_mday || same.tm_mon != tm.tm_mon || seconds < offset_s)
        return false;
    *ret_ms = (uint64_t)(seconds - offset_s) * 1000;
    return true;
}

/* Z, or +01:00. */
static int read_zone(struct reader *reader)
{
    int sign = next_is(reader, '-') ? -1 : 1;
    int hours, minutes;

    if (next_is(reader, 'Z')) {
        reader->at++;
        return 0;
    }
    read_literal(reader, sign < 0 ? "-" : "+");
    hours = read_number(reader, 2);
    read_literal(reader, ":");
    minutes = read_number(reader, 2);
    if (hours > 23 || minutes > 59)
        reader->good = false;
    return sign * (hours * 3600 + minutes * 60);
}

static void read_clock(struct reader *reader, struct tm *tm)
{
    tm->tm_hour = read_number(reader, 2);
    read_literal(reader, ":");
    tm->tm_min = read_number(reader, 2);
    read_literal(reader, ":");
    tm->tm_sec = read_number(reader, 2);
}

static bool read_rfc3339(struct reader reader, uint64_t *ret_ms)
{
    struct tm tm = {.tm_year = read_number(&reader, 4) - 1900};
    int offset_s;

    read_literal(&reader, "-");
    tm.tm_mon = read_number(&reader, 2) - 1;
    read_literal(&reader, "-");
    tm.tm_mday = read_number(&reader, 2);
    read_literal(&reader, "T");
    read_clock(&reader, &tm);
    if (next_is(&reader, '.')) {
        do
            reader.at++;
        while (reader.at < reader.end && *reader.at >= '0' && *reader.at <= '9');
    }
    offset_s = read_zone(&reader);
    return reader.good && reader.at == reader.end && make_ms(tm, offset_s, ret_ms);
}

static int read_month(struct reader *reader)
{
    static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int i = 0; i < 12 && reader->end - reader->at >= 3; i++) {
        if (memcmp(reader->at, names + (size_t)i * 3, 3) == 0) {
            reader->at += 3;
            return i;
        }
    }
    reader->good = false;
    return 0;
}

/* The form of HTTP: Sun, 31 Jan 2027 08:22:00 GMT. The day's name says nothing new. */
static bool read_http_date(struct reader reader, uint64_t *ret_ms)
{
    struct tm tm = {0};

    if (reader.end - reader.at < 5)
        return false;
    reader.at += 3;
    read_literal(&reader, ", ");
    tm.tm_mday = read_number(&reader, 2);
    read_literal(&reader, " ");
    tm.tm_mon = read_month(&reader);
    read_literal(&reader, " ");
    tm.tm_year = read_number(&reader, 4) - 1900;
    read_literal(&reader, " ");
    read_clock(&reader, &tm);
    read_literal(&reader, " GMT");
    return reader.good && reader.at == reader.end && make_ms(tm, 0, ret_ms);
}

bool notice_time(struct slice text, uint64_t *ret_ms)
{
    struct reader reader = {text.data, text.data + text.len, true};

    return text.len > 0 && (read_rfc3339(reader, ret_ms) || read_http_date(reader, ret_ms));
}

uint64_t notice_left_ms(const struct notice *notice, uint64_t now_ms, uint64_t usual_ms)
{
    uint64_t left_ms = notice->at_ms > now_ms ? notice->at_ms - now_ms : 0;

    if (!notice->timed)
        return usual_ms;
    return left_ms < LEFT_MS_MAX ? left_ms : LEFT_MS_MAX;
}

/* ------------------------------------------------------------------------------------- plain text ---- */

static struct slice trim(struct slice text)
{
    while (text.len > 0 && strchr(" \t\r\n", text.data[0]) && text.data[0]) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) && text.data[text.len - 1])
        text.len--;
    return text;
}

static bool equals(struct slice text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

enum notice_said notice_parse_gcp_preempted(struct slice body, struct notice *ret)
{
    body = trim(body);
    if (equals(body, "FALSE"))
        return NOTICE_NONE;
    if (!equals(body, "TRUE"))
        return NOTICE_UNREAD;
    *ret = (struct notice){.what = "preempted"};
    return NOTICE_GIVEN;
}

enum notice_said notice_parse_gcp_maintenance(struct slice body, struct notice *ret)
{
    body = trim(body);
    if (equals(body, "NONE") || equals(body, "MIGRATE_ON_HOST_MAINTENANCE"))
        return NOTICE_NONE;
    if (!equals(body, "TERMINATE_ON_HOST_MAINTENANCE"))
        return NOTICE_UNREAD;
    *ret = (struct notice){.what = "maintenance"};
    return NOTICE_GIVEN;
}

void notice_parse_file(struct slice body, uint64_t now_ms, struct notice *ret)
{
    uint64_t in_ms;

    body = trim(body);
    *ret = (struct notice){.what = "file"};
    if (notice_time(body, &ret->at_ms)) {
        ret->timed = true;
    } else if (duration_parse(body, &in_ms)) {
        ret->timed = true;
        if (__builtin_add_overflow(now_ms, in_ms, &ret->at_ms))
            ret->at_ms = UINT64_MAX;
    }
}

/* ------------------------------------------------------------------------------------------- JSON ---- */

static bool parse(struct arena *arena, struct slice body, struct json **ret)
{
    static const struct json_limits limits = {.nodes_max = NODES_MAX};

    return json_parse(arena, body, &limits, ret, NULL) == ERR_OK && json_is_object(*ret);
}

/* A time that is there must be one; "" is none. */
static bool read_time(const struct json *value, struct notice *notice)
{
    if (!json_is_string(value))
        return false;
    notice->timed = value->text.len > 0;
    return !notice->timed || notice_time(value->text, &notice->at_ms);
}

static const char *action_of(const struct json *value)
{
    static const char *const actions[] = {"terminate", "stop", "hibernate"};

    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        if (json_equals(value, actions[i]))
            return actions[i];
    }
    return json_is_string(value) ? "action" : NULL; /* one that is new ends the machine as well */
}

enum notice_said notice_parse_aws(struct slice body, struct notice *ret)
{
    struct notice notice = {0};
    struct arena arena = {0};
    struct json *root;
    bool good = parse(&arena, body, &root);

    if (good) {
        notice.what = action_of(json_get(root, "action"));
        good = notice.what && read_time(json_get(root, "time"), &notice) && notice.timed;
    }
    arena_release(&arena);
    if (!good)
        return NOTICE_UNREAD;
    *ret = notice;
    return NOTICE_GIVEN;
}

enum notice_said notice_parse_aws_rebalance(struct slice body, struct notice *ret)
{
    struct notice said_at = {0};
    struct arena arena = {0};
    struct json *root;
    bool good = parse(&arena, body, &root) && read_time(json_get(root, "noticeTime"), &said_at);

    arena_release(&arena);
    if (!good)
        return NOTICE_UNREAD;
    *ret = (struct notice){.what = "rebalance"};
    return NOTICE_GIVEN;
}

/* NULL: the machine lives on. */
static const char *end_of(const struct json *type)
{
    static const char *const ends[][2] = {{"Preempt", "preempt"},
                                          {"Terminate", "terminate"},
                                          {"Redeploy", "redeploy"},
                                          {"Reboot", "reboot"}};

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (json_equals(type, ends[i][0]))
            return ends[i][1];
    }
    return NULL;
}

static bool names_vm(const struct json *resources, const char *vm)
{
    const struct json *name;

    if (!json_is_array(resources))
        return false;
    json_each(name, resources)
    {
        if (json_equals(name, vm))
            return true;
    }
    return false;
}

/* An id that can be put between quotes as it is. */
static void copy_event(const struct json *id, char out[64])
{
    static const char allowed[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

    out[0] = '\0';
    if (!json_is_string(id) || id->text.len >= 64 || memchr(id->text.data, '\0', id->text.len))
        return;
    memcpy(out, id->text.data, id->text.len);
    out[id->text.len] = '\0';
    if (strspn(out, allowed) != id->text.len)
        out[0] = '\0';
}

/* False: it does not concern this machine, or cannot be read. */
static bool read_event(const struct json *event, const char *vm, struct notice *ret)
{
    *ret = (struct notice){.what = end_of(json_get(event, "EventType"))};
    if (!ret->what || !names_vm(json_get(event, "Resources"), vm))
        return false;
    if (!read_time(json_get(event, "NotBefore"), ret))
        ret->timed = false; /* it concerns us all the same */
    if (json_equals(json_get(event, "EventStatus"), "Started"))
        ret->timed = true, ret->at_ms = 0; /* now */
    copy_event(json_get(event, "EventId"), ret->event);
    return true;
}

static bool is_earlier(const struct notice *a, const struct notice *b)
{
    if (!b->what)
        return true;
    return (a->timed ? a->at_ms : 0) < (b->timed ? b->at_ms : 0);
}

enum notice_said notice_parse_azure(struct slice body, const char *vm, struct notice *ret)
{
    enum notice_said said = NOTICE_UNREAD;
    struct notice first = {0}, notice;
    const struct json *events, *event;
    struct arena arena = {0};
    struct json *root;

    if (!parse(&arena, body, &root))
        goto done;
    events = json_get(root, "Events");
    if (!json_is_array(events))
        goto done;
    json_each(event, events)
    {
        if (read_event(event, vm, &notice) && is_earlier(&notice, &first))
            first = notice;
    }
    said = first.what ? NOTICE_GIVEN : NOTICE_NONE;
    if (first.what)
        *ret = first;
done:
    arena_release(&arena);
    return said;
}
