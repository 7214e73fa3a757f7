/*
 * fuzz_notice.c: whatever a metadata service or a file says, it is one of three things; a notice has a
 * name, an event that can stand between quotes, and leaves no more than a day.
 */
#include "consumer/notice_parse.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DAY_MS = 24 * 3600 * 1000 };

#define NOW_MS 1800000000000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check(enum notice_said said, const struct notice *notice)
{
    uint64_t left_ms;

    must(said == NOTICE_NONE || said == NOTICE_GIVEN || said == NOTICE_UNREAD);
    if (said != NOTICE_GIVEN) {
        must(notice->what == NULL); /* untouched */
        return;
    }
    must(notice->what != NULL && notice->what[0] != '\0');
    must(memchr(notice->event, '\0', sizeof(notice->event)) != NULL);
    must(strpbrk(notice->event, "\"\\\r\n{}") == NULL);
    left_ms = notice_left_ms(notice, NOW_MS, 15000);
    must(left_ms <= DAY_MS);
    must(notice->timed || left_ms == 15000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    struct notice notice[6] = {{0}};
    uint64_t at_ms, again_ms;

    check(notice_parse_aws(text, &notice[0]), &notice[0]);
    check(notice_parse_aws_rebalance(text, &notice[1]), &notice[1]);
    check(notice_parse_gcp_preempted(text, &notice[2]), &notice[2]);
    check(notice_parse_gcp_maintenance(text, &notice[3]), &notice[3]);
    check(notice_parse_azure(text, "vm", &notice[4]), &notice[4]);
    notice_parse_file(text, NOW_MS, &notice[5]);
    check(NOTICE_GIVEN, &notice[5]);
    if (notice_time(text, &at_ms)) {
        must(at_ms % 1000 == 0 && notice_time(text, &again_ms) && again_ms == at_ms);
        must(notice[5].timed && notice[5].at_ms == at_ms);
    }
    return 0;
}
