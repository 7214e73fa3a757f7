/*
 * core.h: the inside of an engine, shared by the files of this folder: engine.c (the calls of
 * engine.h), open.c (options and model), plan.c (what the next step works on), blocks.c (on which KV
 * blocks), collect.c (what came of it).
 *
 * A STEP'S LIFE plan_step() fills a device step slot and a `struct flight` beside it, the device
 * works, collect_step() takes the result in. Up to two are in flight, so a step is planned before
 * the one in front of it has said what it sampled: a sequence that ends there has rows too many in
 * the step behind ("dropped"). Its slot and blocks stay taken until that step is in.
 */
#ifndef MSERVE_KERNELS_CORE_CORE_H
#define MSERVE_KERNELS_CORE_CORE_H

#include "kernels/core/cost.h"
#include "kernels/core/group.h"
#include "kernels/core/kv.h"
#include "kernels/core/prefix.h"
#include "kernels/core/sequence.h"
#include "kernels/core/tags.h"
#include "kernels/core/waiting.h"
#include "kernels/device.h"
#include "kernels/engine.h"
#include "kernels/text/tokenizer.h"

#include <stdbool.h>
#include <stdint.h>

/* What the core remembers of a step in flight, beside the device's arrays. */
struct flight {
    struct step *step;
    struct sequence **sequence; /* [S] &engine->dropped: it ended in the step before. Beyond S some
                                 * sequence or other: a few may be prefetched */
    uint8_t *wanted;            /* [S] 1: its last row is sampled or pooled */
    uint8_t *common;            /* [S], from `decodes` on; 1: its rows are its group's */
    uint32_t decodes;  /* the first entries: one row each, of the id sampled last, and wanted */
    uint32_t prefix;   /* entries of the device's arrays that say so already */
    uint64_t kv;       /* KV tokens that the step touches */
    uint64_t chunk_kv; /* of these, its chunks */
};

/* Each token's bytes: those of id i lie at bytes[at[i]] .. bytes[at[i + 1]]. */
struct pieces {
    char *bytes; /* PIECE_PAD more than the last piece needs */
    uint32_t *at;
    uint32_t longest;
    uint8_t *ends; /* 1: an end token */
};

enum { PIECE_PAD = 8, FLIGHT_PAD = 8 };

struct engine {
    const struct device_ops *ops;
    struct device *device;
    struct slots *slots;
    struct model *model; /* NULL for sim */
    struct tokenizer *tokenizer;
    struct pieces pieces;
    struct engine_model about;
    uint32_t sequences_max; /* in a step */
    uint32_t waiting_max;
    uint32_t rows_max;
    bool broken; /* the device failed */

    struct sequence_pool pool;
    struct tags tags;
    struct waiting waiting;
    struct sequence_list finished;  /* not yet polled */
    struct sequence_list delivered; /* polled; memory is freed by the next step */
    uint64_t submitted;

    /* In the order in which they first ran; those no longer SEQUENCE_RUNNING go at the next plan. */
    struct sequence **run;
    uint32_t run_len;
    uint32_t running;       /* of them SEQUENCE_RUNNING */
    uint32_t evicting;      /* evicted, with rows in flight */
    uint64_t evictions;     /* in all */
    uint64_t most_blocks;   /* that those which run could want at most */
    bool forecasts;         /* false: admits whoever can begin. For tests */
    struct lengths lengths; /* of the answers that came to their end */
    uint32_t slots_len;     /* twice sequences_max */
    uint32_t *free_slots;
    uint32_t free_slots_len;
    uint32_t *slot_blocks; /* [slot] length of its block table */
    bool *slot_leaving;    /* [slot] nothing will be planned in it any more */
    struct kv kv;
    struct groups groups;
    struct prefix prefix;
    struct sequence **prefills; /* of the step being planned: those that want more than one row */

    struct sequence dropped; /* what a step in flight has in the place of one that ended */
    struct flight flights[DEVICE_STEPS];
    unsigned oldest; /* of those in flight */
    unsigned in_flight;
    uint64_t steps; /* collected */

    uint16_t decode_weight, chunk_weight; /* of cost_work */
    struct cost_scratch scratch;
    uint64_t *share_ns; /* [S] of the step being collected */
    struct engine_books books;
    uint64_t began_ns;
    uint64_t cut_ns; /* the clock up to which the books go */
};

/* engine_open() on a given device; options->backend is not looked at. For tests. */
enum err core_open(const struct engine_options *options, const struct device_ops *ops,
                   struct engine **ret);

void pieces_init(struct pieces *pieces, const struct tokenizer *tokenizer);
void pieces_release(struct pieces *pieces);

/* Plans and enqueues a step; false when there is nothing to do that could be done now. */
bool plan_step(struct engine *engine);

/* Takes in the oldest step in flight. */
enum err collect_step(struct engine *engine, struct engine_step_info *info);

/* Appends the bytes of the ids from the `from`-th generated to before the `to`-th to the text. */
void append_text(const struct engine *engine, struct sequence *sequence, uint32_t from,
                 uint32_t to);

/* Adds a generated id; true when the sequence has reached its end (sequence->finish says how). */
bool accept_token(const struct engine *engine, struct sequence *sequence, uint32_t id);

/* Into the list of finished ones, from any other state; slot and blocks go when they can. */
void finish_sequence(struct engine *engine, struct sequence *sequence, enum engine_finish finish);

/* Out of its slot and into the waiting list again; nothing of it is in flight. */
void requeue_sequence(struct engine *engine, struct sequence *sequence);

/* blocks.c: the block table of a slot. */
uint32_t *table_of(const struct engine *engine, uint32_t slot);

/* Slot and blocks become free. */
void release_slot(struct engine *engine, uint32_t slot);

/* Slot and blocks become free when the rows in flight are in. */
void leave_slot(struct engine *engine, uint32_t slot);

/* It wants no more rows; its state is the caller's to change. */
void stop_running(struct engine *engine, struct sequence *sequence);

/* Takes blocks until `positions` fit or there is none, free or kept. */
void grow_table(struct engine *engine, struct sequence *sequence, uint32_t positions);

/*
 * Room for at least one more position, evicting where it must be. False: not in this step; enough
 * blocks are on their way (then *starved counts it), or it was itself the one to go.
 */
bool find_room(struct engine *engine, struct sequence *sequence, uint32_t *starved);

#endif
