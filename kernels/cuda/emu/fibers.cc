/* fibers.cc: a stack each, and the change between two of them. */
#include "kernels/cuda/emu/fibers.cuh"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Sanitized frames are larger. The sizes are no powers of two, so that the caches' sets are shared
 * out among stacks; so are the places within a page at which they begin. */
enum { PAGE = 4096, STACK_PAGES = 19, STACK_PAGES_SANITIZED = 67 };
enum { COLOURS = 32, COLOUR_BYTES = 5 * 64 };

#ifdef EMU_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *bytes);
}
#endif
#ifdef EMU_TSAN
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *at);
void __tsan_release(void *at);
}
enum { TSAN_NO_SYNC = 1 };
#endif

#ifdef __x86_64__
/*
 * Keeps what a callee must keep on the stack that is left, and takes it from the one that is
 * entered. A fresh stack holds fiber_begin as return address and its fiber in the place of rbx.
 */
extern "C" void fiber_swap(void **save, void *sp);
extern "C" void fiber_begin(void);
asm(R"(
    .text
    .type fiber_swap, @function
fiber_swap:
    endbr64
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size fiber_swap, . - fiber_swap
    .type fiber_begin, @function
fiber_begin:
    .cfi_startproc
    .cfi_undefined rip
    mov %rbx, %rdi
    call fiber_entry
    ud2
    .cfi_endproc
    .size fiber_begin, . - fiber_begin
)");
#endif

/* The change itself. `ends`: `from` is not come back to. */
EMU_HARDWARE static void change(struct fiber *from, struct fiber *to, bool ends)
{
    to->from = from;
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(to->tsan, TSAN_NO_SYNC);
#endif
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(ends ? NULL : &from->fake, to->bottom, to->bytes);
#else
    (void)ends;
#endif
#ifdef __x86_64__
    fiber_swap(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
}

/* On the stack that was changed to: an adopted one learns its bounds when it is left first. */
EMU_HARDWARE static void changed(struct fiber *self)
{
#ifdef EMU_ASAN
    const void *bottom;
    size_t bytes;

    __sanitizer_finish_switch_fiber(self->fake, &bottom, &bytes);
    if (self->from->map == NULL) {
        self->from->bottom = bottom;
        self->from->bytes = bytes;
    }
#else
    (void)self;
#endif
}

extern "C" EMU_HARDWARE void fiber_entry(struct fiber *self) __attribute__((noreturn, used));

void fiber_entry(struct fiber *self)
{
    changed(self);
    self->main(self->arg);
    change(self, self->from, true);
    abort(); /* it was changed to after its end */
}

EMU_HARDWARE void fiber_change(struct fiber *from, struct fiber *to)
{
    change(from, to, false);
    changed(from);
}

static void lay_out(struct fiber *fiber, char *top)
{
#ifdef __x86_64__
    void **sp = reinterpret_cast<void **>(top);

    *--sp = NULL; /* where a return address of fiber_begin would be */
    *--sp = NULL; /* and what keeps the stack aligned to 16 bytes when fiber_begin calls */
    *--sp = reinterpret_cast<void *>(fiber_begin);
    *--sp = NULL;  /* rbp: the end of the chain of frames */
    *--sp = fiber; /* rbx */
    for (int i = 0; i < 4; i++)
        *--sp = NULL; /* r12 to r15 */
    fiber->sp = sp;
#else
    uintptr_t bottom = reinterpret_cast<uintptr_t>(fiber->bottom);
    uintptr_t self = reinterpret_cast<uintptr_t>(fiber);

    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = const_cast<void *>(fiber->bottom);
    fiber->context.uc_stack.ss_size = reinterpret_cast<uintptr_t>(top) - bottom;
    makecontext(&fiber->context, reinterpret_cast<void (*)(void)>(+[](unsigned high, unsigned low) {
        uint64_t both = static_cast<uint64_t>(high) << 32 | low;
        fiber_entry(reinterpret_cast<struct fiber *>(both));
    }),
                2, static_cast<unsigned>(static_cast<uint64_t>(self) >> 32),
                static_cast<unsigned>(self));
#endif
}

bool fiber_open(struct fiber *fiber, uint32_t index, void (*main)(void *arg), void *arg)
{
#if defined(EMU_ASAN) || defined(EMU_TSAN)
    size_t bytes = static_cast<size_t>(STACK_PAGES_SANITIZED) * PAGE;
#else
    size_t bytes = static_cast<size_t>(STACK_PAGES) * PAGE;
#endif
    void *map = mmap(NULL, bytes + PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED)
        return false;
    mprotect(map, PAGE, PROT_NONE);
    memset(fiber, 0, sizeof(*fiber));
    fiber->main = main;
    fiber->arg = arg;
    fiber->map = map;
    fiber->map_bytes = bytes + PAGE;
    fiber->bottom = static_cast<char *>(map) + PAGE;
    fiber->bytes = bytes;
    lay_out(fiber, static_cast<char *>(map) + PAGE + bytes - index % COLOURS * COLOUR_BYTES);
#ifdef EMU_TSAN
    fiber->tsan = __tsan_create_fiber(0);
#endif
    return true;
}

void fiber_close(struct fiber *fiber)
{
#ifdef EMU_TSAN
    if (fiber->tsan != NULL)
        __tsan_destroy_fiber(fiber->tsan);
#endif
    if (fiber->map != NULL)
        munmap(fiber->map, fiber->map_bytes);
    memset(fiber, 0, sizeof(*fiber));
}

void fiber_adopt(struct fiber *fiber)
{
    memset(fiber, 0, sizeof(*fiber));
#ifdef EMU_TSAN
    fiber->tsan = __tsan_get_current_fiber();
#endif
}

EMU_HARDWARE void fiber_release(void *at)
{
#ifdef EMU_TSAN
    __tsan_release(at);
#else
    (void)at;
#endif
}

EMU_HARDWARE void fiber_acquire(void *at)
{
#ifdef EMU_TSAN
    __tsan_acquire(at);
#else
    (void)at;
#endif
}
