/*
 * drive.h: runs sequences through a device (kernels/device.h) with a plan that the test chooses: who
 * joins when, in which chunks prompts are read, how many steps are in flight. No core, no engine.
 */
#ifndef MSERVE_TESTS_KERNELS_DRIVE_H
#define MSERVE_TESTS_KERNELS_DRIVE_H

#include "kernels/device.h"
#include "kernels/model/model.h"

#include <stdbool.h>
#include <stdint.h>

enum { DRIVE_TOKENS_MAX = 512, DRIVE_EMBED_MAX = 128 };

struct drive_sequence {
    const uint32_t *prompt;
    uint32_t prompt_len;
    uint32_t tokens_max; /* to generate, end tokens included; 0: an embedding is wanted */
    struct engine_sampling sampling;
    uint32_t chunk;      /* rows of its prompt in one step; 0: all */
    uint32_t joins_step; /* does nothing before */

    /* What came out. */
    uint32_t tokens[DRIVE_TOKENS_MAX];
    uint32_t tokens_len;
    uint32_t bad; /* number of tokens or embeddings that were flagged */
    float embedding[DRIVE_EMBED_MAX];

    /* The driver's own. */
    uint32_t ctx;     /* rows enqueued */
    uint32_t planned; /* tokens whose sampling was enqueued */
};

struct drive {
    struct device *device;
    struct device_limits limits;
    uint32_t embed; /* numbers of an embedding */
    struct step *step[DEVICE_STEPS];
    uint64_t enqueued_ns[DEVICE_STEPS];
    unsigned depth;    /* steps in flight: 1 or 2 */
    uint64_t steps;    /* done so far */
    uint64_t last_end; /* of the step before */
    /* Called when a step is in and none is in flight behind it (depth 1). May be NULL. */
    void (*on_step)(struct drive *drive, const struct step *step, void *arg);
    void *arg;
};

/* Opens `ops` on the model, with as many blocks as `sequences` contexts need and some more. */
void drive_open(struct drive *drive, const struct device_ops *ops, const struct model *model,
                uint32_t sequences, uint32_t rows_max, uint32_t context, uint32_t threads);

/* The same with floats in the KV cache. */
void drive_open_exact(struct drive *drive, const struct device_ops *ops, const struct model *model,
                      uint32_t sequences, uint32_t rows_max, uint32_t context, uint32_t threads);

/* The same under these limits; their `blocks` are not looked at. */
void drive_open_as(struct drive *drive, const struct device_ops *ops, const struct model *model,
                   const struct device_limits *limits);
void drive_close(struct drive *drive);

/*
 * Runs all to their end; sequence i has slot i. Block ids are dealt in a scattered order that depends
 * on `shuffle`. Asserts on the way that time and its parts add up.
 */
void drive_run(struct drive *drive, struct drive_sequence *sequences, uint32_t len,
               uint64_t shuffle);

#endif
