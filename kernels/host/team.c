/* team.c: helpers wait for a loop, awake for a while and then asleep, and take pieces of it. */
#include "kernels/host/team.h"

#include "config/buffer.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/*
 * Below WORTH_SHARING_NS a loop is over before a helper could help. A piece is short enough that
 * nobody waits long for the last one, and long enough that taking it costs nothing.
 */
enum { WORTH_SHARING_NS = 4000, PIECE_NS = 40000, PIECES_MIN = 4, AWAKE_NS = 50000, LOOKS = 64 };

/* The gate: number of the loop in the high half; whether it is open; who has come in. */
#define GATE_LOOP  (1ull << 32)
#define GATE_OPEN  (1ull << 31)
#define GATE_COUNT (GATE_OPEN - 1)

struct team {
    uint32_t threads;
    pthread_t *helper; /* [threads - 1] */
    cpu_set_t cores;   /* that this process may use */
    uint32_t threads_wanted;
    bool pinned; /* then there are as many cores */
    bool awake;  /* there is a core for each thread, so that waiting awake takes it from nobody */
    _Atomic uint32_t named; /* helpers that have taken their number */

    _Alignas(64) _Atomic uint64_t gate;
    _Alignas(64) _Atomic uint32_t next; /* first item that nobody has taken */
    _Alignas(64) _Atomic uint32_t left; /* helpers that came in and are done */
    _Alignas(64) _Atomic uint32_t sleepers;
    _Atomic bool stop;
    pthread_mutex_t lock; /* for going to sleep only */
    pthread_cond_t woken;

    /* Of the loop, written while the gate is shut. */
    void (*task)(void *, uint32_t, uint32_t, uint32_t);
    void *arg;
    uint32_t items;
    uint32_t piece;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void breathe(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_pieces(struct team *team, uint32_t thread)
{
    for (;;) {
        uint32_t begin = atomic_fetch_add_explicit(&team->next, team->piece, memory_order_relaxed);
        uint32_t end;

        if (begin >= team->items)
            return;
        end = team->items - begin < team->piece ? team->items : begin + team->piece;
        team->task(team->arg, begin, end, thread);
    }
}

/* True when there is a loop after `seen`, or the team stops. */
static bool called(struct team *team, uint64_t seen)
{
    return atomic_load(&team->gate) / GATE_LOOP != seen || atomic_load(&team->stop);
}

static void wait_for_call(struct team *team, uint64_t seen)
{
    uint64_t until = team->awake ? now_ns() + AWAKE_NS : 0;

    while (team->awake && now_ns() < until)
        for (int i = 0; i < LOOKS; i++) {
            if (called(team, seen))
                return;
            breathe();
        }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->sleepers, 1);
    while (!called(team, seen))
        pthread_cond_wait(&team->woken, &team->lock);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->lock);
}

static void wake(struct team *team)
{
    if (atomic_load(&team->sleepers) == 0)
        return;
    pthread_mutex_lock(&team->lock);
    pthread_cond_broadcast(&team->woken);
    pthread_mutex_unlock(&team->lock);
}

/* False when the loop is over already. */
static bool come_in(struct team *team, uint64_t *ret_loop)
{
    uint64_t gate = atomic_load(&team->gate);

    do
        *ret_loop = gate / GATE_LOOP;
    while ((gate & GATE_OPEN) != 0 && !atomic_compare_exchange_weak(&team->gate, &gate, gate + 1));
    return (gate & GATE_OPEN) != 0;
}

/*
 * The n-th of the cores that this process may use, counted from one that depends on the process: the
 * first thread does all that is too short to share, and those of two workers should not meet.
 */
static void pin(const struct team *team, uint32_t n)
{
    cpu_set_t one;

    if (!team->pinned)
        return;
    n = (n + (uint32_t)getpid()) % team->threads_wanted;
    for (size_t core = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &team->cores) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            pthread_setaffinity_np(pthread_self(), sizeof(one), &one); /* or it runs anywhere */
            return;
        }
}

static void *help(void *arg)
{
    struct team *team = arg;
    uint32_t thread = 1 + atomic_fetch_add(&team->named, 1);
    uint64_t seen = 0;

    pin(team, thread);
    for (;;) {
        wait_for_call(team, seen);
        if (atomic_load(&team->stop))
            return NULL;
        if (come_in(team, &seen)) {
            take_pieces(team, thread);
            atomic_fetch_add(&team->left, 1);
        }
    }
}

/* Fewer threads than asked for where the system has no more. */
struct team *team_new(uint32_t threads, bool pinned)
{
    struct team *team = aligned_alloc(64, sizeof(*team));
    uint32_t cores = 1;

    if (team == NULL)
        abort();
    *team = (struct team){.threads = 1};
    if (sched_getaffinity(0, sizeof(team->cores), &team->cores) == 0)
        cores = (uint32_t)CPU_COUNT(&team->cores);
    threads = threads > 0 ? threads : cores;
    team->threads_wanted = threads;
    team->awake = threads <= cores;
    team->pinned = pinned && threads == cores;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->woken, NULL);
    team->helper = xcalloc(threads, sizeof(*team->helper));
    while (team->threads < threads &&
           pthread_create(&team->helper[team->threads - 1], NULL, help, team) == 0)
        team->threads++;
    return team;
}

void team_free(struct team *team)
{
    if (team == NULL)
        return;
    atomic_store(&team->stop, true);
    wake(team);
    for (uint32_t i = 0; i + 1 < team->threads; i++)
        pthread_join(team->helper[i], NULL);
    pthread_cond_destroy(&team->woken);
    pthread_mutex_destroy(&team->lock);
    free(team->helper);
    free(team);
}

uint32_t team_threads(const struct team *team)
{
    return team->threads;
}

void team_join(struct team *team)
{
    pin(team, 0);
}

/* Of PIECE_NS each, but some for every thread. */
static uint32_t piece_of(const struct team *team, uint32_t items, uint64_t item_ns)
{
    uint64_t piece = item_ns > 0 ? PIECE_NS / item_ns : items;
    uint64_t most = items / (team->threads * PIECES_MIN);

    piece = piece < most ? piece : most;
    return piece > 0 ? (uint32_t)piece : 1;
}

void team_run(struct team *team, uint32_t items, uint64_t item_ns,
              void (*task)(void *arg, uint32_t begin, uint32_t end, uint32_t thread), void *arg)
{
    uint64_t gate = atomic_load(&team->gate);
    uint64_t came;

    if (items == 0)
        return;
    if (team->threads == 1 || items == 1 || items * item_ns < WORTH_SHARING_NS) {
        task(arg, 0, items, 0);
        return;
    }
    team->task = task;
    team->arg = arg;
    team->items = items;
    team->piece = piece_of(team, items, item_ns);
    atomic_store(&team->next, 0);
    atomic_store(&team->left, 0);
    atomic_store(&team->gate, (gate / GATE_LOOP + 1) * GATE_LOOP + GATE_OPEN);
    wake(team);
    take_pieces(team, 0);
    came = atomic_fetch_and(&team->gate, ~GATE_OPEN) & GATE_COUNT;
    for (uint32_t i = 1; atomic_load(&team->left) != came; i++) {
        breathe();
        if (i % 1024 == 0 || !team->awake)
            sched_yield(); /* its thread may wait for this core */
    }
}
