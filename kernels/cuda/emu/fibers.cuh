/*
 * fibers.cuh: stacks of their own that one thread changes between, without asking the kernel. The
 * sanitizers are told of each change, so that they see fibers as threads.
 *
 * A fiber is changed to from any other of the same thread, the thread's own stack (adopted)
 * included.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_FIBERS_CUH
#define MSERVE_KERNELS_CUDA_EMU_FIBERS_CUH

#include <stddef.h>
#include <stdint.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define EMU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMU_TSAN 1
#endif
#endif

/* Before functions that work behind the sanitizers' backs: they do what the hardware does. */
#if !defined(EMU_ASAN) && !defined(EMU_TSAN)
#define EMU_HARDWARE
#elif defined(__clang__)
#define EMU_HARDWARE __attribute__((no_sanitize("thread"), no_sanitize("address"), noinline))
#else
#define EMU_HARDWARE __attribute__((no_sanitize_thread, no_sanitize_address, noinline))
#endif

struct fiber {
#ifdef __x86_64__
    void *sp; /* while it does not run */
#else
    ucontext_t context;
#endif
    struct fiber *from; /* that was left for this one */
    void (*main)(void *arg);
    void *arg;
    void *map; /* its stack with a guard page below; NULL: adopted */
    size_t map_bytes;
    const void *bottom; /* of its stack, for the sanitizers */
    size_t bytes;
    void *fake, *tsan;
};

/* `index` spreads stacks over the cache. main(arg) runs when it is first changed to; when it
 * returns, the fiber that changed to this one last goes on. False: no memory. */
bool fiber_open(struct fiber *fiber, uint32_t index, void (*main)(void *arg), void *arg);
void fiber_close(struct fiber *fiber); /* does not run now; zeros are allowed */

/* The stack that the caller runs on. */
void fiber_adopt(struct fiber *fiber);

void fiber_change(struct fiber *from, struct fiber *to);

/* What happened before the release happens before what follows the acquire, for ThreadSanitizer. */
void fiber_release(void *at);
void fiber_acquire(void *at);

#endif
