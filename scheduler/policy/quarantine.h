/*
 * quarantine.h: which requests are suspected of killing workers, how many suspects may run together,
 * when, and which of them is found guilty.
 *
 * Only a *proven* death accuses (consumer/guard.h): a crash, a hang, memory that ran out. It accuses
 * what was open in the engine then, n requests, and says of each: from now on it runs apart, in sets of
 * n / 2 at most. A death of a set that ran apart halves its members' cap again and accuses nobody else,
 * so a poison is alone after log2(n) deaths; three deaths alone and it is guilty. Cap and count end only with
 * the request's own row.
 *
 * Hosts that vanish accuse nobody: it takes a request that was open on many vanished workers, on
 * several hosts, to make it run alone, and as many that vanished while it ran alone to find it guilty.
 *
 * Pure functions, time is a parameter; any thread.
 */
#ifndef MSERVE_SCHEDULER_POLICY_QUARANTINE_H
#define MSERVE_SCHEDULER_POLICY_QUARANTINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of a request that has no row. {0}: nothing. */
struct quarantine_evidence {
    uint32_t cap;          /* it runs apart, in sets of so many at most; 0: nobody accuses it */
    uint32_t deaths_alone; /* proven, while it was the whole set */
    uint32_t vanished;     /* workers that vanished while it was open, */
    uint32_t vanished_hosts;
    uint32_t vanished_alone; /* and those of them on which it was the whole set */
    uint32_t vanished_alone_hosts;
};

enum { DEATHS_ALONE_MAX = 3 }; /* what quarantine_limits.deaths_alone is */

struct quarantine_limits {
    uint32_t deaths_alone; /* so many find it guilty; at least 1 */
    uint32_t vanished;     /* so many vanished workers, */
    uint32_t hosts;        /* on so many hosts; both at least 1 */
};

enum quarantine_verdict { QUARANTINE_FREE, QUARANTINE_APART, QUARANTINE_GUILTY };

/* *ret_cap (when apart): the most that may run together with it, itself included; at least 1. */
enum quarantine_verdict quarantine_judge(const struct quarantine_evidence *evidence,
                                         const struct quarantine_limits *limits, uint32_t *ret_cap);

/* What a proven death with `open` requests in the engine says of each of them. */
struct quarantine_charge {
    uint32_t cap;
    uint32_t deaths_alone; /* to add: 1 when it was alone by intent, else 0 */
};
struct quarantine_charge quarantine_charge(uint32_t open, bool apart);

/* Adds it to what is known: a cap never grows. (The database does the same; see 0008.) */
void quarantine_accuse(struct quarantine_evidence *evidence, struct quarantine_charge charge);

/* A suspect that waits to run. */
struct quarantine_waiting {
    uint32_t cap;
    uint64_t since_ns;
};

/*
 * Chooses the set that runs next: of the cap of whoever has waited longest, the first of that cap in
 * the order given, as many as the cap allows and there is room for. Fills ret[room]; 0 when nobody
 * waits.
 */
uint32_t quarantine_pick(const struct quarantine_waiting *waiting, uint32_t count, uint32_t room,
                         uint32_t *ret);

/*
 * Whether feeding of normal work is to stop now for a set to run apart: when there is none, or when the
 * longest wait is over. Between two sets normal work has its turn: a wait counts from the end of the set
 * before (`apart_ns`; 0: none yet).
 */
bool quarantine_is_time(uint64_t oldest_ns, uint64_t apart_ns, uint64_t wait_ns, bool has_normal,
                        uint64_t now_ns);

#endif
