/*
 * queue.cuh: what is enqueued on an emulated GPU, run in order by a thread of the queue, or at once
 * by the caller. Entries carry a copy of their argument; the room for them is taken at the start,
 * and who finds it full waits.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_QUEUE_CUH
#define MSERVE_KERNELS_CUDA_EMU_QUEUE_CUH

#include <stddef.h>
#include <stdint.h>

struct gpu;
struct emu_queue;

enum { EMU_ARGS_MAX = 4096 + 256 };

/* One thing to do; its argument stands behind it. */
struct alignas(16) emu_entry {
    void (*run)(struct gpu *gpu, const void *args);
    const char *name; /* lives for ever */
    uint32_t bytes;   /* with the argument, a multiple of 32 */
    bool always;      /* runs after a fault too */
};

/* Runs what is due; on the queue's thread, or the caller's. */
typedef void emu_run_entry(struct gpu *gpu, const struct emu_entry *entry);

struct emu_queue *emu_queue_start(struct gpu *gpu, emu_run_entry *run, bool direct);
void emu_queue_stop(struct emu_queue *queue); /* runs what is left; NULL is allowed */

void emu_queue_put(struct emu_queue *queue, const struct emu_entry *entry, const void *args,
                   size_t bytes);
void emu_queue_drain(struct emu_queue *queue); /* waits until nothing is left */

/* The size of an entry with an argument of so many bytes. */
uint32_t emu_entry_bytes(size_t args_bytes);

static inline const void *emu_entry_args(const struct emu_entry *entry)
{
    return entry + 1;
}

#endif
