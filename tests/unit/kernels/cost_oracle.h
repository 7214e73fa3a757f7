/*
 * cost_oracle.h: an independent calculator of the engine's accounts on the simulated device. It is
 * told the requests and how many tokens each answered with, knows sim's clock and the rules of who
 * works when, and works out in whole numbers what every account must hold. It shares no code with
 * the engine and keeps no tokens, blocks or tables.
 *
 * For schedules without evictions, with a token budget that all prompts fit, and a fixed_ns that
 * divides by the number of sequences in every step; kv_ns is 1,024, so attention costs 1 ns a token;
 * of what is read in chunks it costs chunk_kv ns.
 * What requests of a group have in common they have all from the first id on, and nothing behind it.
 */
#ifndef MSERVE_TESTS_KERNELS_COST_ORACLE_H
#define MSERVE_TESTS_KERNELS_COST_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

enum { ORACLE_REQUESTS = 64, ORACLE_GROUPS = 4, ORACLE_CALLS_NEVER = 0 };

struct oracle_request {
    bool embeds;
    uint32_t group;  /* 0: none */
    uint32_t common; /* ids at the beginning of its prompt that all of the group have */
    uint32_t prompt;
    uint32_t rows;        /* at most: prompt + tokens_max - 1, or prompt for an embedding */
    uint32_t resumed;     /* tokens of an earlier attempt */
    uint32_t samples;     /* that it took until it ended: tokens, end token, embedding */
    uint32_t cancel_call; /* cancelled after so many engine_step() calls */

    /* Results. */
    uint64_t ns;
    uint64_t recompute_ns;
    uint32_t cached;
    uint32_t sampled; /* until it ended or was cancelled */

    /* Inside. */
    uint32_t at;
    uint32_t rank; /* 1 .. in the order of admission */
    bool admitted, running, ended, cancelled;
    int pending; /* steps in flight that have rows of it */
};

struct oracle {
    uint64_t load_ns, fixed_ns, row_ns, head_ns, chunk_kv;
    uint32_t places;   /* sequences_max */
    uint32_t patience; /* of waiting.h */
    uint32_t len;
    struct oracle_request request[ORACLE_REQUESTS];

    /* Results. */
    uint64_t held_ns, delivered_ns, shared_ns, recompute_ns, overhead_ns;
    uint64_t group_ns[ORACLE_GROUPS]; /* of shared_ns */

    /* Inside. */
    uint32_t ready[ORACLE_GROUPS]; /* blocks of the common beginning that are there */
    uint32_t admissions;
};

/* All requests are submitted before the first step. */
void oracle_run(struct oracle *oracle);

#endif
