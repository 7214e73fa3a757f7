/* team.c: helpers sleep until there is a loop, then take pieces of it until none is left. */
#include "kernels/ref/team.h"

#include "config/buffer.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Waking a helper costs as much as this many multiplications. */
enum { WORTH_SHARING = 400000, PIECE_WORK = 100000 };

struct team {
    uint32_t threads;
    pthread_t *helper; /* [threads - 1] */
    pthread_mutex_t lock;
    pthread_cond_t begun;
    pthread_cond_t ended;
    uint64_t loops; /* begun so far; under lock, as all below but next */
    uint32_t busy;  /* helpers that have not ended the loop */
    uint32_t named; /* helpers that have taken their number */
    bool stop;
    void (*task)(void *, uint32_t, uint32_t, uint32_t);
    void *arg;
    uint32_t items;
    uint32_t piece;
    _Atomic uint32_t next; /* first item that nobody has taken */
};

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

static void *help(void *arg)
{
    struct team *team = arg;
    uint64_t seen = 0;
    uint32_t thread;

    pthread_mutex_lock(&team->lock);
    thread = ++team->named;
    for (;;) {
        while (team->loops == seen && !team->stop)
            pthread_cond_wait(&team->begun, &team->lock);
        if (team->stop)
            break;
        seen = team->loops;
        pthread_mutex_unlock(&team->lock);
        take_pieces(team, thread);
        pthread_mutex_lock(&team->lock);
        if (--team->busy == 0)
            pthread_cond_signal(&team->ended);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

static uint32_t cores(void)
{
    cpu_set_t set;
    int count = 1;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = CPU_COUNT(&set);
    return count > 0 ? (uint32_t)count : 1;
}

/* Fewer threads than asked for where the system has no more. */
struct team *team_new(uint32_t threads)
{
    struct team *team = xcalloc(1, sizeof(*team));

    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->begun, NULL);
    pthread_cond_init(&team->ended, NULL);
    threads = threads > 0 ? threads : cores();
    team->helper = xcalloc(threads, sizeof(*team->helper));
    team->threads = 1;
    while (team->threads < threads &&
           pthread_create(&team->helper[team->threads - 1], NULL, help, team) == 0)
        team->threads++;
    return team;
}

void team_free(struct team *team)
{
    if (team == NULL)
        return;
    pthread_mutex_lock(&team->lock);
    team->stop = true;
    pthread_cond_broadcast(&team->begun);
    pthread_mutex_unlock(&team->lock);
    for (uint32_t i = 0; i + 1 < team->threads; i++)
        pthread_join(team->helper[i], NULL);
    pthread_cond_destroy(&team->ended);
    pthread_cond_destroy(&team->begun);
    pthread_mutex_destroy(&team->lock);
    free(team->helper);
    free(team);
}

uint32_t team_threads(const struct team *team)
{
    return team->threads;
}

void team_run(struct team *team, uint32_t items, uint64_t item_work,
              void (*task)(void *arg, uint32_t begin, uint32_t end, uint32_t thread), void *arg)
{
    uint64_t piece = item_work > 0 ? PIECE_WORK / item_work : items;

    if (items == 0)
        return;
    if (team->threads == 1 || items == 1 || items * item_work < WORTH_SHARING) {
        task(arg, 0, items, 0);
        return;
    }
    pthread_mutex_lock(&team->lock);
    team->task = task;
    team->arg = arg;
    team->items = items;
    team->piece = piece > 0 ? (uint32_t)piece : 1;
    atomic_store_explicit(&team->next, 0, memory_order_relaxed);
    team->busy = team->threads - 1;
    team->loops++;
    pthread_cond_broadcast(&team->begun);
    pthread_mutex_unlock(&team->lock);
    take_pieces(team, 0);
    pthread_mutex_lock(&team->lock);
    while (team->busy > 0)
        pthread_cond_wait(&team->ended, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
