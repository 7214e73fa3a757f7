/*
 * quarantine.h: what the database keeps of deaths, suspects and dead letters (0008_quarantine.sql). What
 * a death means is scheduler/policy/quarantine.h.
 */
#ifndef MSERVE_SQL_QUARANTINE_H
#define MSERVE_SQL_QUARANTINE_H

#include "scheduler/policy/quarantine.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

/* A request that was in the engine, or had left it without a commit that is known. */
struct burial_request {
    struct uuid job;
    int64_t line;
    int32_t chunk;
    bool accused; /* it was in the engine, and the death is proven */
    uint32_t attempt;
    uint32_t tokens;
    uint64_t cost_ns;      /* of this attempt, */
    uint64_t recompute_ns; /* and beside it, for reading again; */
    uint64_t booked_ns;    /* of the latter, in commits that are known to have landed */
};

/* A worker whose end was seen. Times count from its registration; texts are borrowed. */
struct burial {
    struct uuid worker;
    int64_t token;
    const char *why;   /* workers.closed_why */
    const char *ended; /* attempts.why */
    bool proven;
    int32_t signal;     /* 0: none */
    const char *thread; /* "": not known */
    bool apart;
    struct quarantine_charge charge;
    uint64_t held_ns;
    uint64_t overhead_ns;
    uint64_t idle_ns;
    uint64_t recompute_ns;
    const struct burial_request *requests;
    size_t count;
};

/*
 * One transaction. *ret: true when it was this call that closed the worker's books; also when its lease
 * had run out and only the accusation was new, or somebody else was first, it is done: ERR_OK.
 */
enum err quarantine_bury(struct db *db, const struct burial *burial, bool *ret);

/* What is known of one line. */
struct quarantine_line {
    int64_t line;
    struct quarantine_evidence evidence;
};

/* Lines first_line.. of which something is known, in order, in the arena. */
enum err quarantine_lines(struct db *db, struct uuid job, int64_t first_line, uint32_t lines,
                          struct arena *arena, struct quarantine_line **ret, uint32_t *ret_count);

/* Keeps a request that was found guilty; *ret_deaths, in the arena, is the evidence as JSON. */
enum err quarantine_add_dead(struct db *db, struct uuid job, int64_t line, struct slice custom_id,
                             struct slice body, struct arena *arena, struct slice *ret_deaths);

#endif
