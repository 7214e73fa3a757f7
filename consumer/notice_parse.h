/*
 * notice_parse.h: what a cloud's metadata service, or a file, says about the end of this machine.
 *
 *   aws      spot/instance-action                   {"action":"terminate","time":"2027-01-31T08:22:00Z"}
 *            events/recommendations/rebalance       {"noticeTime":"2027-01-31T08:22:00Z"}: when it was
 *                                                   said, not when anything ends
 *   gcp      instance/preempted                     TRUE or FALSE
 *            instance/maintenance-event             NONE, MIGRATE_ON_HOST_MAINTENANCE (harmless),
 *                                                   TERMINATE_ON_HOST_MAINTENANCE
 *   azure    scheduledevents                        {"Events":[{"EventId":…,"EventType":"Preempt",
 *                                                   "Resources":["this-vm"],"NotBefore":
 *                                                   "Sun, 31 Jan 2027 08:22:00 GMT"}]}; a Freeze is
 *                                                   a pause of seconds, and harmless
 *   a file   empty; or by when: 2027-01-31T08:22:00Z, or from now on: 90s
 *
 * Pure functions; any thread. The bytes come from outside: whatever they are, one of three is said.
 */
#ifndef MSERVE_CONSUMER_NOTICE_PARSE_H
#define MSERVE_CONSUMER_NOTICE_PARSE_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>

enum notice_said {
    NOTICE_NONE,   /* this machine stays */
    NOTICE_GIVEN,  /* it goes away; the notice is filled in */
    NOTICE_UNREAD, /* nothing that this service would say */
};

struct notice {
    const char *what; /* constant: "terminate", "rebalance", … */
    bool timed;       /* else no time was told */
    uint64_t at_ms;   /* since 1970, UTC */
    char event[64];   /* azure: what an acknowledgement names; else "" */
};

/* 2027-01-31T08:22:00Z, also with a fraction or +01:00, or Sun, 31 Jan 2027 08:22:00 GMT. */
bool notice_time(struct slice text, uint64_t *ret_ms);

enum notice_said notice_parse_aws(struct slice body, struct notice *ret);
enum notice_said notice_parse_aws_rebalance(struct slice body, struct notice *ret);
enum notice_said notice_parse_gcp_preempted(struct slice body, struct notice *ret);
enum notice_said notice_parse_gcp_maintenance(struct slice body, struct notice *ret);

/* Of the events that name the machine `vm` the one that comes first. */
enum notice_said notice_parse_azure(struct slice body, const char *vm, struct notice *ret);

/* A file that exists always gives notice; one that cannot be understood does so without a time. */
void notice_parse_file(struct slice body, uint64_t now_ms, struct notice *ret);

/* How much time there is: 0 when it is over, `usual_ms` when none was told, a day at most. */
uint64_t notice_left_ms(const struct notice *notice, uint64_t now_ms, uint64_t usual_ms);

#endif
