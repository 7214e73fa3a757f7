/* document_since.c: durations, then seconds, then one format of a date after the other. */
#include "producer/documents/document_since.h"
#include "config/units.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool parse_seconds(const char *text, int64_t *ret_s)
{
    char *end;
    long long seconds;

    errno = 0;
    seconds = strtoll(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0)
        return false;
    *ret_s = seconds;
    return true;
}

/* What mktime(3) makes of a day that no month has is another day: such a one is none. */
static bool is_day(const struct tm *tm)
{
    struct tm day = {.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday};

    return timegm(&day) != -1 && day.tm_mday == tm->tm_mday && day.tm_mon == tm->tm_mon;
}

static bool parse_date(const char *text, const char *format, bool zone, int64_t *ret_s)
{
    struct tm tm = {.tm_isdst = -1}, utc;
    const char *end = strptime(text, format, &tm);
    long offset_s = tm.tm_gmtoff;
    time_t at;

    if (end == NULL || *end != '\0' || !is_day(&tm))
        return false;
    utc = tm;
    utc.tm_isdst = 0;
    at = zone ? timegm(&utc) - offset_s : mktime(&tm);
    *ret_s = (int64_t)at;
    return true;
}

bool document_since_parse(const char *text, int64_t now_s, int64_t *ret_s)
{
    static const struct {
        const char *format;
        bool zone;
    } dates[] = {
        {"%Y-%m-%d", false},          {"%Y-%m-%d %H:%M", false},     {"%Y-%m-%dT%H:%M", false},
        {"%Y-%m-%d %H:%M:%S", false}, {"%Y-%m-%dT%H:%M:%S", false},  {"%Y-%m-%dT%H:%M%z", true},
        {"%Y-%m-%d %H:%M%z", true},   {"%Y-%m-%dT%H:%M:%S%z", true}, {"%Y-%m-%d %H:%M:%S%z", true},
    };
    uint64_t ms;

    if (duration_parse((struct slice){text, strlen(text)}, &ms)) {
        *ret_s = now_s - (int64_t)(ms / 1000);
        return true;
    }
    if (text[0] == '@')
        return parse_seconds(text + 1, ret_s);
    for (size_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++)
        if (parse_date(text, dates[i].format, dates[i].zone, ret_s))
            return true;
    return false;
}
