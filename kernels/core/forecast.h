/*
 * forecast.h: whether one more sequence will find KV memory until it ends. Nine answers of ten are
 * as long as nine of ten were so far (in its group, when enough of that ended); with that, a sequence
 * still wants so many blocks and gives back those it has when it ends. What all of them hold is
 * most at the moment when one of them ends: that peak is compared with the pool.
 *
 * A wrong forecast costs an eviction, never an answer.
 */
#ifndef MSERVE_KERNELS_CORE_FORECAST_H
#define MSERVE_KERNELS_CORE_FORECAST_H

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct sequence;

enum { FORECAST_BINS = 64 };

/* Those that run, by how much they still want. */
struct forecast {
    bool made;
    uint32_t width;                /* blocks of a bin */
    uint32_t count[FORECAST_BINS]; /* bin b: want at most (b + 1) * width blocks more */
    uint64_t own[FORECAST_BINS];   /* blocks that only they have */
    uint64_t rest;                 /* blocks of several tables */
};

/* Rows that it will have had at its end. */
uint32_t forecast_rows(const struct engine *engine, const struct sequence *sequence);

/*
 * Whether one with `now` blocks of its own at once, that will want `later` more, fits beside those
 * that run. Fills *forecast at the first call of a plan; forecast_add() for each that was admitted.
 */
bool forecast_fits(const struct engine *engine, struct forecast *forecast, uint32_t now,
                   uint32_t later);
void forecast_add(struct forecast *forecast, uint32_t now, uint32_t later);

#endif
