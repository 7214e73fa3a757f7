/* delivery.c: one attempt, judged. */
#include "scheduler/policy/delivery.h"

#include "config/log.h"
#include "config/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TOO_MANY_REQUESTS = 429, GONE = 410, BAD_GATEWAY = 502, GATEWAY_TIMEOUT = 504 };

enum err delivery_schedule_parse(const char *const *text, uint32_t count,
                                 struct delivery_schedule *ret)
{
    struct delivery_schedule schedule = {.count = count};

    if (count == 0 || count > DELIVERY_ATTEMPTS_MAX)
        return fail(ERR_SETTINGS, "webhook.retries: it has %u times; 1 to %d are allowed", count,
                    DELIVERY_ATTEMPTS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!duration_parse((struct slice){text[i], strlen(text[i])}, &schedule.pause_ms[i]))
            return fail(ERR_SETTINGS,
                        "webhook.retries: \"%s\" is no time; write 0s,5s,5m,30m and so on",
                        text[i]);
    if (schedule.pause_ms[0] != 0)
        return fail(ERR_SETTINGS,
                    "webhook.retries: it begins with %s; write 0s there, for the "
                    "first attempt is made at once",
                    text[0]);
    *ret = schedule;
    return ERR_OK;
}

/* ------------------------------------------------------------------------------- Retry-After ---- */

static bool parse_seconds(struct slice value, uint64_t *ret_ms)
{
    uint64_t seconds = 0;

    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return false;
        if (seconds <= DELIVERY_RETRY_AFTER_MS_MAX)
            seconds = seconds * 10 + (uint64_t)(value.data[i] - '0');
    }
    *ret_ms = seconds * 1000;
    return value.len > 0;
}

/* Days since 1970 of a date of the Gregorian calendar; the year begins in March here. */
static int64_t days_since_1970(int year, int month, int day)
{
    int64_t from_march = (month + 9) % 12;
    int64_t years = year - (month <= 2);

    return years * 365 + years / 4 - years / 100 + years / 400 + (from_march * 153 + 2) / 5 + day -
           1 - 719468;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT"; the two forms that RFC 9110 calls obsolete are not taken. */
static bool parse_date(struct slice value, int64_t *ret_unix_s)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    int day, year, hour, minute, second, end = 0;
    char text[32], month[4];
    const char *found;

    if (value.len >= sizeof(text))
        return false;
    memcpy(text, value.data, value.len);
    text[value.len] = '\0';
    if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &day, month, &year, &hour,
               &minute, &second, &end) != 6 ||
        end != (int)value.len)
        return false;
    found = strstr(months, month);
    if (!found || strlen(month) != 3 || (found - months) % 3 != 0 || day < 1 || day > 31 ||
        year < 1970 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 ||
        second > 60)
        return false;
    *ret_unix_s = days_since_1970(year, (int)(found - months) / 3 + 1, day) * 86400 + hour * 3600 +
                  minute * 60 + second;
    return true;
}

bool delivery_retry_after(struct slice value, int64_t now_unix_s, uint64_t *ret_ms)
{
    uint64_t ms;
    int64_t at;

    if (!parse_seconds(value, &ms)) {
        if (!parse_date(value, &at))
            return false;
        ms = at > now_unix_s ? (uint64_t)(at - now_unix_s) * 1000 : 0;
    }
    *ret_ms = ms < DELIVERY_RETRY_AFTER_MS_MAX ? ms : DELIVERY_RETRY_AFTER_MS_MAX;
    return true;
}

/* ------------------------------------------------------------------------------ the decision ---- */

/* Between 80 % and 120 % of it. */
static uint64_t jittered(uint64_t ms, uint64_t random)
{
    uint64_t fifth = ms / 5;

    return ms - fifth + random % (2 * fifth + 1);
}

/* first, twice, four times… as long, up to the longest. */
static uint64_t growing(uint64_t first_ms, uint64_t longest_ms, uint32_t times)
{
    uint64_t ms = first_ms;

    while (times-- > 0 && ms < longest_ms)
        ms *= 2;
    return ms < longest_ms ? ms : longest_ms;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* How long the endpoint is left in peace after this failure. */
static uint64_t rest_after(const struct delivery_attempt *attempt)
{
    uint32_t failures = attempt->failures < UINT32_MAX ? attempt->failures + 1 : UINT32_MAX;
    uint64_t ms = 0;

    if (attempt->status == TOO_MANY_REQUESTS || attempt->status == BAD_GATEWAY ||
        attempt->status == GATEWAY_TIMEOUT)
        ms =
            jittered(growing(DELIVERY_THROTTLE_MS_MIN, DELIVERY_THROTTLE_MS_MAX, attempt->failures),
                     attempt->random);
    if (failures >= DELIVERY_BREAK_AFTER)
        ms = larger(ms, jittered(growing(DELIVERY_REST_MS_MIN, DELIVERY_REST_MS_MAX,
                                         failures - DELIVERY_BREAK_AFTER),
                                 attempt->random));
    return larger(ms, attempt->retry_after_ms);
}

struct delivery_decision delivery_decide(const struct delivery_schedule *schedule,
                                         uint64_t disable_after_ms,
                                         const struct delivery_attempt *attempt)
{
    if (attempt->status >= 200 && attempt->status <= 299)
        return (struct delivery_decision){.result = DELIVERY_DELIVERED};
    if (attempt->status == GONE)
        return (struct delivery_decision){.result = DELIVERY_DISABLED, .disabled_why = "gone"};
    if (attempt->failures > 0 && attempt->failing_ms >= disable_after_ms)
        return (struct delivery_decision){.result = DELIVERY_DISABLED, .disabled_why = "failing"};
    if (attempt->attempts >= schedule->count)
        return (struct delivery_decision){.result = DELIVERY_FAILED,
                                          .rest_ms = rest_after(attempt)};
    return (struct delivery_decision){
        .result = DELIVERY_RETRIED,
        .retry_ms = larger(jittered(schedule->pause_ms[attempt->attempts], attempt->random),
                           attempt->retry_after_ms),
        .rest_ms = rest_after(attempt)};
}

const char *delivery_result_name(enum delivery_result result)
{
    static const char *const names[] = {
        [DELIVERY_DELIVERED] = "delivered",
        [DELIVERY_RETRIED] = "retried",
        [DELIVERY_FAILED] = "failed",
        [DELIVERY_DISABLED] = "disabled",
    };

    return names[result];
}
