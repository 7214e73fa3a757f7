/* block.cc: who runs next, and what is said when nobody can. */
#include "kernels/cuda/emu/block.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

/* Shared memory lies between two margins that nobody may touch. */
enum { MARGIN_BYTES = 1024, MARGIN_VALUE = 0xa5, SHARED_ALIGNMENT = 128 };

__thread struct simt_thread *simt_now __attribute__((tls_model("initial-exec")));

EMU_HARDWARE struct simt_lane *simt_lane_now(void)
{
    return reinterpret_cast<struct simt_lane *>(simt_now);
}

/* ---- mistakes ---- */

static const char *base_of(const char *file)
{
    const char *slash = strrchr(file, '/');

    return slash != NULL ? slash + 1 : file;
}

void simt_die(const struct simt_lane *lane, struct simt_site site, const char *format, ...)
{
    const struct simt_machine *machine = lane->machine;
    char said[512];
    va_list list;

    va_start(list, format);
    vsnprintf(said, sizeof(said), format, list);
    va_end(list);
    fprintf(stderr, "cuda-emu: kernel %s, block %u, thread %u, %s:%d: %s\n", machine->launch->name,
            machine->place.block.x, lane->self.index.x,
            site.file != NULL ? base_of(site.file) : "its end", site.line, said);
    abort();
}

void simt_check_shared(const struct simt_lane *lane, const void *at, size_t bytes,
                       struct simt_site site, const char *word)
{
    const struct simt_machine *machine = lane->machine;
    uintptr_t begin = reinterpret_cast<uintptr_t>(machine->place.shared);
    uintptr_t here = reinterpret_cast<uintptr_t>(at);

    if (here % bytes != 0)
        simt_die(lane, site, "%s at a place that is not aligned to %zu bytes", word, bytes);
    if (here < begin || here - begin + bytes > machine->shared_bytes)
        simt_die(lane, site, "%s outside of the %zu bytes of shared memory that were asked for",
                 word, machine->shared_bytes);
}

static void say_where(char *out, size_t size, const struct simt_lane *lane)
{
    static const char *const verb[] = {"has not begun", "meets its warp", "waits at the barrier",
                                       "has ended"};

    if (lane->site.file != NULL)
        snprintf(out, size, "thread %u %s at %s:%d", lane->self.index.x, verb[lane->stand],
                 base_of(lane->site.file), lane->site.line);
    else
        snprintf(out, size, "thread %u %s", lane->self.index.x, verb[lane->stand]);
}

static void __attribute__((noreturn))
die_apart(const struct simt_lane *one, const struct simt_lane *other, const char *what)
{
    char here[160], there[160];

    say_where(here, sizeof(here), one);
    say_where(there, sizeof(there), other);
    simt_die(one, one->site, "%s: %s, %s", what, here, there);
}

EMU_HARDWARE static bool together(struct simt_site one, struct simt_site other)
{
    return one.line == other.line &&
           (one.file == other.file ||
            (one.file != NULL && other.file != NULL && strcmp(one.file, other.file) == 0));
}

/* ---- order ---- */

EMU_HARDWARE static uint32_t random_below(struct simt_machine *machine, uint32_t below)
{
    machine->random ^= machine->random << 13;
    machine->random ^= machine->random >> 7;
    machine->random ^= machine->random << 17;
    return static_cast<uint32_t>((machine->random >> 32) * below >> 32);
}

EMU_HARDWARE static struct simt_lane *lane_of(struct simt_machine *machine,
                                              const struct simt_warp *warp, uint32_t lane)
{
    return &machine->lane[static_cast<size_t>(warp - machine->warp) * LANES + lane];
}

/* The warp that is to run, NULL where none can. */
EMU_HARDWARE static struct simt_warp *choose_warp(struct simt_machine *machine)
{
    uint32_t first = 0, step = 1;

    switch (machine->schedule) {
    case SCHEDULE_FAIR:
        first = ++machine->turn % machine->warps;
        break;
    case SCHEDULE_LAST:
        first = machine->warps - 1;
        step = machine->warps - 1; /* backwards */
        break;
    case SCHEDULE_RANDOM:
        first = random_below(machine, machine->warps);
        break;
    case SCHEDULE_FIRST:
    case SCHEDULE_COUNT:
        break;
    }
    for (uint32_t i = 0; i < machine->warps; i++) {
        struct simt_warp *warp = &machine->warp[(first + i * step) % machine->warps];
        if (warp->stand == STAND_READY) {
            machine->turn = static_cast<uint32_t>(warp - machine->warp);
            return warp;
        }
    }
    return NULL;
}

EMU_HARDWARE static void order_lanes(struct simt_machine *machine, struct simt_warp *warp)
{
    for (uint32_t i = 0; i < LANES; i++)
        warp->order[i] =
            static_cast<uint8_t>(machine->schedule == SCHEDULE_LAST ? LANES - 1 - i : i);
    for (uint32_t i = LANES - 1; machine->schedule == SCHEDULE_RANDOM && i > 0; i--) {
        uint32_t other = random_below(machine, i + 1);
        uint8_t kept = warp->order[i];
        warp->order[i] = warp->order[other];
        warp->order[other] = kept;
    }
}

/* All warps stand at the block's barrier or have ended: the barrier opens, or somebody is
 * missing. */
EMU_HARDWARE static bool open_barrier(struct simt_machine *machine)
{
    const struct simt_lane *first = &machine->lane[0];

    for (uint32_t i = 1; i < machine->warps; i++) {
        const struct simt_lane *other = &machine->lane[i * LANES];
        if (other->stand != first->stand)
            die_apart(other, first, "deadlock: a barrier that not all threads of the block reach");
        if (!together(other->site, first->site))
            die_apart(other, first, "divergent barrier");
    }
    if (first->stand == STAND_END)
        return false;
    for (uint32_t i = 0; i < machine->warps; i++) {
        machine->warp[i].stand = STAND_READY;
        if (machine->schedule == SCHEDULE_RANDOM)
            order_lanes(machine, &machine->warp[i]);
    }
    return true;
}

/* The fiber that goes on after all lanes of a warp stand; the machine's own when the block
 * ended. */
EMU_HARDWARE static struct fiber *next_fiber(struct simt_machine *machine, struct simt_warp *warp)
{
    struct simt_warp *next = warp;

    if (warp->stand != STAND_READY || machine->schedule == SCHEDULE_FAIR)
        next = choose_warp(machine);
    if (next == NULL && !open_barrier(machine))
        return &machine->own;
    if (next == NULL)
        next = choose_warp(machine);
    return &lane_of(machine, next, next->order[0])->fiber;
}

/* All 32 must stand at the same place. */
EMU_HARDWARE static void check_warp(struct simt_machine *machine, const struct simt_warp *warp)
{
    const struct simt_lane *first = lane_of(machine, warp, 0);

    for (uint32_t i = 1; i < LANES; i++) {
        const struct simt_lane *other = lane_of(machine, warp, i);
        bool blocks = first->stand == STAND_BLOCK || other->stand == STAND_BLOCK;
        if (first->stand != other->stand || !together(first->site, other->site))
            die_apart(other, first,
                      blocks ? "divergent barrier: not all threads reach it together"
                             : "partial warp: not all 32 lanes meet at one word");
    }
}

/* `lane` cannot go on before others have moved: changes to who can. */
EMU_HARDWARE static void stand(struct simt_lane *lane, enum stand stand, struct simt_site site,
                               void (*all_here)(struct simt_warp *warp, uint32_t parity))
{
    struct simt_machine *machine = lane->machine;
    struct simt_warp *warp = lane->warp;
    struct fiber *next;

    lane->stand = stand;
    lane->site = site;
    if (++warp->next < LANES) {
        next = &lane_of(machine, warp, warp->order[warp->next])->fiber;
    } else {
        check_warp(machine, warp);
        if (all_here != NULL)
            all_here(warp, lane->meetings & 1);
        warp->next = 0;
        warp->stand = stand == STAND_WARP ? STAND_READY : stand;
        next = next_fiber(machine, warp);
    }
    if (next != &lane->fiber)
        fiber_change(&lane->fiber, next);
    simt_now = &lane->self;
}

EMU_HARDWARE void simt_meet_warp(struct simt_lane *lane, struct simt_site site,
                                 void (*all_here)(struct simt_warp *warp, uint32_t parity))
{
    lane->meetings++;
    stand(lane, STAND_WARP, site, all_here);
}

EMU_HARDWARE void simt_meet_block(struct simt_lane *lane, struct simt_site site)
{
    stand(lane, STAND_BLOCK, site, NULL);
}

/* ---- blocks ---- */

/* What a fiber does all its life: its thread of one block after another. */
EMU_HARDWARE static void live(void *arg)
{
    struct simt_lane *lane = static_cast<struct simt_lane *>(arg);
    const struct simt_site end = {NULL, 0};

    simt_now = &lane->self;
    while (!lane->machine->ending) {
        const struct simt_launch *launch = lane->machine->launch;
        fiber_acquire(&lane->machine->start);
        launch->enter(launch->kernel, lane->machine->args);
        if (lane->copy_count > 0)
            simt_die(lane, end, "it ends with asynchronous copies that it has not waited for");
        fiber_release(&lane->machine->end);
        stand(lane, STAND_END, end, NULL);
    }
}

static bool want_fibers(struct simt_machine *machine, uint32_t threads)
{
    for (; machine->fibers < threads; machine->fibers++) {
        struct simt_lane *lane = &machine->lane[machine->fibers];
        lane->machine = machine;
        lane->copy = &machine->copy[static_cast<size_t>(machine->fibers) * COPIES_MAX];
        lane->warp = &machine->warp[machine->fibers / LANES];
        lane->lane = machine->fibers % LANES;
        lane->self.index.x = machine->fibers;
        lane->self.place = &machine->place;
        if (!fiber_open(&lane->fiber, machine->fibers, live, lane))
            return false;
    }
    return true;
}

/* Exactly what was asked for is between the margins, at the end of the room there is. */
static void lay_out_shared(struct simt_machine *machine, size_t bytes)
{
    size_t room = (bytes + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
    uint8_t *at = machine->shared_map + MARGIN_BYTES;

    ASAN_UNPOISON_MEMORY_REGION(machine->shared_map, machine->shared_max + 2 * MARGIN_BYTES);
    memset(at - MARGIN_BYTES, MARGIN_VALUE, MARGIN_BYTES);
    memset(at + bytes, MARGIN_VALUE, room - bytes + MARGIN_BYTES);
    machine->place.shared = at;
    machine->shared_bytes = bytes;
    ASAN_POISON_MEMORY_REGION(at - MARGIN_BYTES, MARGIN_BYTES);
    ASAN_POISON_MEMORY_REGION(at + bytes, machine->shared_max - bytes + MARGIN_BYTES);
}

#ifndef EMU_ASAN
static bool is_margin(const uint8_t *at)
{
    return at[0] == MARGIN_VALUE && memcmp(at, at + 1, MARGIN_BYTES - 1) == 0;
}

static void check_margins(const struct simt_machine *machine)
{
    const uint8_t *at = static_cast<const uint8_t *>(machine->place.shared);
    const struct simt_site end = {NULL, 0};

    if (!is_margin(at - MARGIN_BYTES) || !is_margin(at + machine->shared_bytes))
        simt_die(&machine->lane[0], end,
                 "the block wrote outside of the %zu bytes of shared memory that were asked for",
                 machine->shared_bytes);
}
#endif

EMU_HARDWARE static void run_block(struct simt_machine *machine, uint32_t index)
{
    machine->place.block.x = index;
    memset(machine->place.shared, 0xff, machine->shared_bytes);
    for (uint32_t i = 0; i < machine->warps; i++) {
        machine->warp[i].stand = STAND_READY;
        machine->warp[i].next = 0;
        order_lanes(machine, &machine->warp[i]);
    }
    for (uint32_t i = 0; i < machine->warps * LANES; i++)
        machine->lane[i].stand = STAND_READY;
    machine->turn = machine->warps - 1;
    fiber_release(&machine->start);
    struct simt_warp *first = choose_warp(machine);
    fiber_change(&machine->own, &lane_of(machine, first, first->order[0])->fiber);
    fiber_acquire(&machine->end);
#ifndef EMU_ASAN
    check_margins(machine);
#endif
}

static uint32_t common_divisor(uint32_t one, uint32_t other)
{
    while (other != 0) {
        uint32_t rest = one % other;
        one = other;
        other = rest;
    }
    return one;
}

bool simt_machine_run(struct simt_machine *machine, const struct simt_launch *launch,
                      const void *args)
{
    uint32_t grid = launch->grid, first = 0, step = 1;

    if (!want_fibers(machine, launch->threads))
        return false;
    fiber_adopt(&machine->own);
    machine->launch = launch;
    machine->args = args;
    machine->warps = launch->threads / LANES;
    machine->place.threads.x = launch->threads;
    machine->place.grid.x = grid;
    lay_out_shared(machine, launch->shared_bytes);
    if (machine->schedule == SCHEDULE_LAST) {
        first = grid - 1;
        step = grid - 1;
    } else if (machine->schedule == SCHEDULE_RANDOM) {
        first = random_below(machine, grid);
        do
            step = 1 + random_below(machine, grid);
        while (common_divisor(step, grid) != 1);
    }
    for (uint32_t i = 0; i < grid; i++)
        run_block(machine, static_cast<uint32_t>((first + static_cast<uint64_t>(i) * step) % grid));
    return true;
}

/* ---- the machine ---- */

struct simt_machine *simt_machine_new(size_t shared_max, enum schedule schedule, bool copies_late,
                                      uint64_t seed)
{
    struct simt_machine *machine = static_cast<struct simt_machine *>(calloc(1, sizeof(*machine)));
    size_t bytes = shared_max + 2 * MARGIN_BYTES;
    void *at = NULL;

    if (machine == NULL)
        return NULL;
    machine->shared_max = (shared_max + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
    bytes = machine->shared_max + 2 * MARGIN_BYTES;
    machine->warp = static_cast<struct simt_warp *>(calloc(WARPS_MAX, sizeof(struct simt_warp)));
    machine->lane = static_cast<struct simt_lane *>(calloc(THREADS_MAX, sizeof(struct simt_lane)));
    if (posix_memalign(&at, MARGIN_BYTES, bytes) == 0)
        machine->shared_map = static_cast<uint8_t *>(at);
    machine->copy = static_cast<struct simt_copy *>(
        calloc(static_cast<size_t>(THREADS_MAX) * COPIES_MAX, sizeof(struct simt_copy)));
    if (machine->warp == NULL || machine->lane == NULL || machine->copy == NULL ||
        machine->shared_map == NULL) {
        simt_machine_free(machine);
        return NULL;
    }
    machine->schedule = schedule;
    machine->copies_late = copies_late;
    machine->random = seed * 0x9e3779b97f4a7c15u | 1;
    return machine;
}

void simt_machine_free(struct simt_machine *machine)
{
    if (machine == NULL)
        return;
    machine->ending = true;
    if (machine->fibers > 0)
        fiber_adopt(&machine->own);
    for (uint32_t i = 0; i < machine->fibers; i++) {
        if (machine->lane[i].stand == STAND_END) /* it has run: it returns, and leaves no stack */
            fiber_change(&machine->own, &machine->lane[i].fiber);
        fiber_close(&machine->lane[i].fiber);
    }
    if (machine->shared_map != NULL)
        ASAN_UNPOISON_MEMORY_REGION(machine->shared_map, machine->shared_max + 2 * MARGIN_BYTES);
    free(machine->shared_map);
    free(machine->warp);
    free(machine->lane);
    free(machine->copy);
    free(machine);
}
