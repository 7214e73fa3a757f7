/*
 * document_since.h: a point in time as people type it: a duration back from now ("36h", "7d"), a date or
 * a time of this machine ("2026-11-21", "2026-11-21 03:00", "2026-11-21T03:00:00"), one with its zone
 * ("2026-11-21T03:00:00Z", "…+01:00"), or "@" and the seconds since 1970.
 *
 * Pure but for the machine's time zone; any thread.
 */
#ifndef MSERVE_PRODUCER_DOCUMENT_SINCE_H
#define MSERVE_PRODUCER_DOCUMENT_SINCE_H

#include <stdbool.h>
#include <stdint.h>

/* Seconds since 1970. False: it is none of these. */
bool document_since_parse(const char *text, int64_t now_s, int64_t *ret_s);

#endif
