/* recorder.c: numbers in shared memory. */
#include "consumer/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/log.h"

enum { HEAD_BYTES = 512 };

_Static_assert(sizeof(struct recorder_head) <= HEAD_BYTES, "the slots begin behind the head");
_Static_assert(sizeof(struct recorder_slot) == 64, "a slot is a cache line");

#define SET(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)
#define GET(field)        atomic_load_explicit(&(field), memory_order_relaxed)

/* ------------------------------------------------------------------------------- the memory ---- */

/*
 * A file of our own: two workers in one would tell of each other's requests. Its blocks are there
 * before they are written to, as a full disk would be the death of the device thread.
 */
static enum err open_file(const char *path, uint64_t size, int *ret)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int failed = 0;

    *ret = fd;
    if (fd < 0)
        return fail(ERR_IO, "%s (worker.recorder): %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return fail(ERR_IO, "%s (worker.recorder): %s", path,
                    errno == EWOULDBLOCK ? "another worker has it; each needs its own"
                                         : strerror(errno));
    if (ftruncate(fd, 0) != 0)
        failed = errno;
    if (!failed)
        failed = posix_fallocate(fd, 0, (off_t)size);
    return failed ? fail(ERR_IO, "%s (worker.recorder): %s", path, strerror(failed)) : ERR_OK;
}

enum err recorder_open(const char *path, uint32_t slots, struct recorder **ret)
{
    uint64_t size = HEAD_BYTES + (uint64_t)slots * sizeof(struct recorder_slot);
    bool has_file = path && path[0];
    int fd = -1;
    void *at = MAP_FAILED;
    struct recorder *recorder;
    enum err err = has_file ? open_file(path, size, &fd) : ERR_OK;

    if (!err) {
        at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (has_file ? 0 : MAP_ANONYMOUS),
                  fd, 0);
        if (at == MAP_FAILED)
            err = fail(ERR_MEMORY, "no memory to share with the worker: %s", strerror(errno));
    }
    if (err) {
        if (fd >= 0)
            close(fd);
        return err;
    }
    recorder = xcalloc(1, sizeof *recorder);
    recorder->size = size;
    recorder->fd = fd;
    recorder->head = at;
    recorder->slot = (struct recorder_slot *)(void *)((char *)at + HEAD_BYTES);
    memcpy(recorder->head->magic, "MSRECORD", sizeof recorder->head->magic);
    recorder->head->version = RECORDER_VERSION;
    recorder->head->slots = slots;
    *ret = recorder;
    return ERR_OK;
}

void recorder_close(struct recorder *recorder)
{
    if (!recorder)
        return;
    munmap(recorder->head, recorder->size);
    if (recorder->fd >= 0)
        close(recorder->fd);
    free(recorder);
}

uint32_t recorder_slots(uint32_t sequences_max, uint32_t commit_rows)
{
    return 4 * sequences_max + 8 * commit_rows;
}

void recorder_clear(struct recorder *recorder)
{
    const uint32_t slots = recorder->head->slots;
    const size_t from = offsetof(struct recorder_head, token);

    memset((char *)recorder->head + from, 0, sizeof *recorder->head - from);
    for (uint32_t i = 0; i < slots; i++) /* pages never touched stay so */
        if (GET(recorder->slot[i].state) != RECORDER_FREE)
            SET(recorder->slot[i].state, RECORDER_FREE);
    recorder->next = 0;
}

/* ---------------------------------------------------------------------------- the last word ---- */

static struct recorder *the_recorder;

/* Only what a signal handler may do. The signal comes again when it returns, and then it kills. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    struct recorder_head *head = the_recorder->head;

    (void)context;
    if (GET(head->signal) == 0) {
        prctl(PR_GET_NAME, head->thread);
        if (info->si_code <= 0 && info->si_pid != getpid()) /* 0: from outside our PID namespace */
            SET(head->sender, info->si_pid != 0 ? info->si_pid : RECORDER_OUTSIDE);
        SET(head->signal, number);
    }
    raise(number);
}

void recorder_catch_crashes(struct recorder *recorder)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
    struct sigaction action = {.sa_sigaction = on_crash,
                               .sa_flags = (int)(SA_RESETHAND | SA_SIGINFO)},
                     before;

    if (!recorder)
        return;
    the_recorder = recorder;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        if (sigaction(deadly[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(deadly[i], &action, NULL);
}

/* ------------------------------------------------------------------------------- the worker ---- */

void recorder_register(struct recorder *recorder, struct uuid worker, int64_t token,
                       uint64_t began_ns)
{
    struct recorder_head *head;

    if (!recorder)
        return;
    head = recorder->head;
    memcpy(head->worker, worker.bytes, sizeof head->worker);
    head->token = token;
    SET(head->began_ns, began_ns);
    head->began_overhead_ns = began_ns > 0 ? GET(head->overhead_ns) : 0;
    head->began_idle_ns = began_ns > 0 ? GET(head->idle_ns) : 0;
    head->began_recompute_ns = began_ns > 0 ? GET(head->recompute_ns) : 0;
    SET(head->landed, 0);
    atomic_fetch_add_explicit(&head->registrations, 1, memory_order_relaxed);
    atomic_store_explicit(&head->registered, 1, memory_order_release);
}

void recorder_unregister(struct recorder *recorder)
{
    if (recorder)
        atomic_store_explicit(&recorder->head->registered, 0, memory_order_release);
}

struct uuid recorder_follows(const struct recorder *recorder)
{
    struct uuid ret = {0};

    if (recorder)
        memcpy(ret.bytes, recorder->head->worker, sizeof ret.bytes);
    return ret;
}

/* ------------------------------------------------------------------------------ the requests ---- */

static uint32_t find_free(struct recorder *recorder)
{
    const uint32_t slots = recorder->head->slots;

    for (uint32_t tried = 0; tried < slots; tried++) {
        uint32_t at = recorder->next;

        recorder->next = at + 1 < slots ? at + 1 : 0;
        if (atomic_load_explicit(&recorder->slot[at].state, memory_order_acquire) == RECORDER_FREE)
            return at;
    }
    return RECORDER_NONE;
}

uint32_t recorder_begin(struct recorder *recorder, struct uuid job, int64_t line, int32_t chunk,
                        uint32_t attempt)
{
    uint32_t at = recorder ? find_free(recorder) : RECORDER_NONE;
    struct recorder_slot *slot;

    if (at == RECORDER_NONE)
        return at;
    slot = &recorder->slot[at];
    memcpy(slot->job, job.bytes, sizeof slot->job);
    slot->line = line;
    slot->chunk = chunk;
    slot->attempt = attempt;
    slot->tokens = 0;
    slot->cost_ns = slot->recompute_ns = slot->booked_ns = 0;
    atomic_store_explicit(&slot->state, RECORDER_RUNNING, memory_order_release);
    return at;
}

void recorder_progress(struct recorder *recorder, uint32_t slot, uint32_t tokens, uint64_t cost_ns,
                       uint64_t recompute_ns)
{
    if (!recorder || slot == RECORDER_NONE)
        return;
    recorder->slot[slot].tokens = tokens;
    recorder->slot[slot].cost_ns = cost_ns;
    recorder->slot[slot].recompute_ns = recompute_ns;
}

void recorder_booked(struct recorder *recorder, uint32_t slot, uint64_t recompute_ns)
{
    if (recorder && slot != RECORDER_NONE)
        recorder->slot[slot].booked_ns = recompute_ns;
}

void recorder_ended(struct recorder *recorder, uint32_t slot, uint32_t tokens, uint64_t cost_ns,
                    uint64_t recompute_ns)
{
    if (!recorder || slot == RECORDER_NONE)
        return;
    recorder_progress(recorder, slot, tokens, cost_ns, recompute_ns);
    atomic_store_explicit(&recorder->slot[slot].state, RECORDER_ENDED, memory_order_release);
}

void recorder_free(struct recorder *recorder, uint32_t slot)
{
    if (recorder && slot != RECORDER_NONE)
        atomic_store_explicit(&recorder->slot[slot].state, RECORDER_FREE, memory_order_release);
}

void recorder_prepare(struct recorder *recorder, struct uuid job, int64_t line, int32_t chunk)
{
    if (!recorder)
        return;
    memcpy(recorder->head->prepared_job, job.bytes, sizeof recorder->head->prepared_job);
    recorder->head->prepared_line = line;
    recorder->head->prepared_chunk = chunk;
    atomic_store_explicit(&recorder->head->preparing, 1, memory_order_release);
}

void recorder_prepared(struct recorder *recorder)
{
    if (recorder)
        atomic_store_explicit(&recorder->head->preparing, 0, memory_order_release);
}

/* -------------------------------------------------------------------------------- the device ---- */

void recorder_device(struct recorder *recorder, const struct recorder_device *now)
{
    struct recorder_head *head;

    if (!recorder)
        return;
    head = recorder->head;
    SET(head->held_ns, now->held_ns);
    SET(head->overhead_ns, now->overhead_ns);
    SET(head->idle_ns, now->idle_ns);
    SET(head->recompute_ns, now->recompute_ns);
    SET(head->sampled, now->sampled);
    atomic_store_explicit(&head->moves, now->moves, memory_order_release);
}

void recorder_apart(struct recorder *recorder, uint32_t requests)
{
    if (recorder)
        atomic_store_explicit(&recorder->head->apart, requests, memory_order_release);
}

void recorder_landed(struct recorder *recorder, int64_t seq)
{
    if (recorder)
        SET(recorder->head->landed, seq);
}

uint32_t recorder_in_use(const struct recorder *recorder, uint32_t *ret, uint32_t cap)
{
    const uint32_t slots = recorder->head->slots;
    uint32_t count = 0;

    for (uint32_t i = 0; i < slots && count < cap; i++)
        if (atomic_load_explicit(&recorder->slot[i].state, memory_order_acquire) != RECORDER_FREE)
            ret[count++] = i;
    return count;
}
