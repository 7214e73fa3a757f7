/* queue.cc: a ring of bytes between who enqueues and the thread that works it off. */
#include "kernels/cuda/emu/queue.cuh"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { RING_BYTES = 1 << 20 };

struct emu_queue {
    struct gpu *gpu;
    emu_run_entry *run;
    bool direct, ending;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t fuller, emptier;
    /* Bytes written and run since the start; their difference is what is under way. */
    uint64_t written, done;
    alignas(16) unsigned char ring[RING_BYTES];
};

uint32_t emu_entry_bytes(size_t args_bytes)
{
    return static_cast<uint32_t>((sizeof(struct emu_entry) + args_bytes + 31) / 32 * 32);
}

static struct emu_entry *entry_at(struct emu_queue *queue, uint64_t place)
{
    return reinterpret_cast<struct emu_entry *>(queue->ring + place % RING_BYTES);
}

static void lay_down(struct emu_entry *to, const struct emu_entry *entry, const void *args,
                     size_t bytes)
{
    *to = *entry;
    to->bytes = emu_entry_bytes(bytes);
    if (bytes > 0)
        memcpy(to + 1, args, bytes);
}

static void *work(void *arg)
{
    struct emu_queue *queue = static_cast<struct emu_queue *>(arg);

    pthread_mutex_lock(&queue->lock);
    for (;;) {
        while (queue->written == queue->done && !queue->ending)
            pthread_cond_wait(&queue->fuller, &queue->lock);
        if (queue->written == queue->done)
            break;
        const struct emu_entry *entry = entry_at(queue, queue->done);
        pthread_mutex_unlock(&queue->lock);
        if (entry->run != NULL) /* NULL: the rest of the ring, where no entry fitted */
            queue->run(queue->gpu, entry);
        pthread_mutex_lock(&queue->lock);
        queue->done += entry->bytes;
        pthread_cond_broadcast(&queue->emptier);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

static bool start_thread(struct emu_queue *queue)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
    rc = pthread_create(&queue->thread, NULL, work, queue);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

struct emu_queue *emu_queue_start(struct gpu *gpu, emu_run_entry *run, bool direct)
{
    struct emu_queue *queue = static_cast<struct emu_queue *>(calloc(1, sizeof(*queue)));

    if (queue == NULL)
        return NULL;
    queue->gpu = gpu;
    queue->run = run;
    queue->direct = direct;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->fuller, NULL);
    pthread_cond_init(&queue->emptier, NULL);
    if (!direct && !start_thread(queue)) {
        queue->direct = true;
        emu_queue_stop(queue);
        return NULL;
    }
    return queue;
}

void emu_queue_stop(struct emu_queue *queue)
{
    if (queue == NULL)
        return;
    if (!queue->direct) {
        pthread_mutex_lock(&queue->lock);
        queue->ending = true;
        pthread_cond_signal(&queue->fuller);
        pthread_mutex_unlock(&queue->lock);
        pthread_join(queue->thread, NULL);
    }
    pthread_cond_destroy(&queue->emptier);
    pthread_cond_destroy(&queue->fuller);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

/* Room for `bytes` without a break, at the place that is returned. Under the lock. */
static uint64_t make_room(struct emu_queue *queue, uint32_t bytes)
{
    uint64_t rest = RING_BYTES - queue->written % RING_BYTES;
    uint64_t skipped = rest < bytes ? rest : 0;

    while (queue->written + skipped + bytes - queue->done > RING_BYTES)
        pthread_cond_wait(&queue->emptier, &queue->lock);
    if (skipped > 0) {
        struct emu_entry *skip = entry_at(queue, queue->written);
        skip->run = NULL;
        skip->bytes = static_cast<uint32_t>(skipped);
        queue->written += skipped;
    }
    return queue->written;
}

void emu_queue_put(struct emu_queue *queue, const struct emu_entry *entry, const void *args,
                   size_t bytes)
{
    assert(bytes <= EMU_ARGS_MAX);
    if (queue->direct) {
        alignas(16) unsigned char here[sizeof(struct emu_entry) + EMU_ARGS_MAX];
        lay_down(reinterpret_cast<struct emu_entry *>(here), entry, args, bytes);
        queue->run(queue->gpu, reinterpret_cast<struct emu_entry *>(here));
        return;
    }
    pthread_mutex_lock(&queue->lock);
    uint64_t place = make_room(queue, emu_entry_bytes(bytes));
    lay_down(entry_at(queue, place), entry, args, bytes);
    queue->written += emu_entry_bytes(bytes);
    pthread_cond_signal(&queue->fuller);
    pthread_mutex_unlock(&queue->lock);
}

void emu_queue_drain(struct emu_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    for (uint64_t until = queue->written; !queue->direct && queue->done < until;)
        pthread_cond_wait(&queue->emptier, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
}
