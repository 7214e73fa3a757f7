/*
 * block.cuh: the emulation of one multiprocessor: it runs a launch block after block, each thread a
 * fiber.
 *
 * ORDER One warp runs as far as it can, to a barrier of its block or its end, before another one
 * moves; within it one lane runs to the next word of the warp, then the next lane. Which warp, lane
 * and block comes first is the schedule's; SCHEDULE_FAIR alone changes to the next warp at each
 * word.
 *
 * MISTAKES of a kernel end the process with one sentence: a barrier or a word of a warp that not
 * all reach, or at different lines; shared memory that was not asked for; misaligned accesses; a
 * copy that nobody waited for. Shared memory is NaN (0xff) at the beginning of each block.
 *
 * Nothing is allocated by a launch that is no larger than those before it.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_BLOCK_CUH
#define MSERVE_KERNELS_CUDA_EMU_BLOCK_CUH

#include "kernels/cuda/emu/fibers.cuh"
#include "kernels/cuda/simt.cuh"

enum { LANES = 32, WARPS_MAX = 32, THREADS_MAX = LANES * WARPS_MAX };
enum { COPIES_MAX = 256, SLOT_WORDS = 6, TILE_ROWS = 16, TILE_COLUMNS = 8 };

enum schedule { SCHEDULE_FAIR, SCHEDULE_FIRST, SCHEDULE_LAST, SCHEDULE_RANDOM, SCHEDULE_COUNT };

/* Where a thread stands while it does not run. */
enum stand { STAND_READY, STAND_WARP, STAND_BLOCK, STAND_END };

struct simt_site {
    const char *file; /* NULL: the kernel's end */
    int line;
};

struct simt_copy {
    void *to;
    const void *from; /* NULL: zeros */
    uint32_t group;   /* how many were closed before it */
};

struct simt_lane {
    struct simt_thread self; /* first: simt_now points at it */
    struct fiber fiber;
    struct simt_machine *machine;
    struct simt_warp *warp;
    uint32_t lane;
    uint32_t meetings; /* words of its warp so far: their parity chooses the slots */
    enum stand stand;
    struct simt_site site;
    /* Asynchronous copies: those of groups `landed` to `closed` are under way, `closed` is open. */
    uint32_t copy_first, copy_count, closed, landed;
    struct simt_copy *copy; /* [COPIES_MAX] a ring */
};

struct simt_warp {
    uint64_t slot[2][LANES][SLOT_WORDS]; /* what the lanes give each other */
    float tile[2][TILE_ROWS][TILE_COLUMNS];
    enum stand stand;
    struct simt_site site;
    uint32_t next; /* how many of `order` have run since all stood */
    uint8_t order[LANES];
};

struct simt_machine {
    struct simt_place place;
    const struct simt_launch *launch;
    const void *args;
    struct fiber own; /* of who runs the launch */
    uint32_t warps, turn;
    enum schedule schedule;
    bool copies_late;
    bool ending; /* fibers are to return */
    uint64_t random;
    size_t shared_bytes, shared_max; /* asked for; there is */
    uint8_t *shared_map;
    uint32_t fibers;
    uint64_t start, barrier, end; /* addresses for fiber_release() */
    struct simt_warp *warp;       /* [WARPS_MAX] */
    struct simt_lane *lane;       /* [THREADS_MAX] */
    struct simt_copy *copy;       /* [THREADS_MAX][COPIES_MAX] */
};

/* NULL: no memory. Used by one thread at a time. */
struct simt_machine *simt_machine_new(size_t shared_max, enum schedule schedule, bool copies_late,
                                      uint64_t seed);
void simt_machine_free(struct simt_machine *machine); /* NULL is allowed */

/* Runs all blocks; the shape is within limits. False: no memory for the threads. */
bool simt_machine_run(struct simt_machine *machine, const struct simt_launch *launch,
                      const void *args);

/* ---- for simt_host.cc ---- */

/* The lane that runs. */
struct simt_lane *simt_lane_now(void);

/* Until all of the warp stand there; the last to come calls all_here, if that is not NULL. */
void simt_meet_warp(struct simt_lane *lane, struct simt_site site,
                    void (*all_here)(struct simt_warp *warp, uint32_t parity));
void simt_meet_block(struct simt_lane *lane, struct simt_site site);

/* Ends the process with a sentence: the mistake is the kernel's. */
void simt_die(const struct simt_lane *lane, struct simt_site site, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* Dies unless these bytes are aligned to their number and lie in the block's shared memory. */
void simt_check_shared(const struct simt_lane *lane, const void *at, size_t bytes,
                       struct simt_site site, const char *word);

#endif
