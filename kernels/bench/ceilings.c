/*
 * ceilings.c: the loops, and threads that start them together. Twelve sums that do not wait for one
 * another are enough to keep two units busy that take four to five cycles; where a step has several
 * instructions, six.
 */
#include "kernels/bench/ceilings.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { RUNS = 5, RUN_NS_MIN = 10000000, READ_PASSES = 2, STREAMS = 4, THREADS_MAX = 256 };
#define READ_BYTES (256ull << 20) /* of all threads together; far beyond what caches hold */

struct loop {
    const char *kind;
    const char *isa;
    bool (*here)(void);
    void (*run)(uint64_t rounds);
    uint32_t
        operations; /* a round: of each instruction the products in a register and as many sums */
};

#if defined(__x86_64__)

#define SIX(X) X("0", "6") X("1", "7") X("2", "8") X("3", "9") X("4", "10") X("5", "11")
#define TWELVE(X)                                                                                  \
    X("0") X("1") X("2") X("3") X("4") X("5") X("6") X("7") X("8") X("9") X("10") X("11")

#define REGISTERS                                                                                  \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

/* `rounds` times the instructions; registers 12 to 15 are zero, as are the sums. */
#define LOOP(name, clear, end, body)                                                               \
    static void name(uint64_t rounds)                                                              \
    {                                                                                              \
        __asm__ volatile(clear "\n\t.p2align 6\n1:\n\t" body "dec %[rounds]\n\tjnz 1b\n\t" end     \
                         : [rounds] "+r"(rounds)                                                   \
                         :                                                                         \
                         : REGISTERS, "cc", "memory");                                             \
    }

#define CLEAR_AVX "vzeroall"
#define END_AVX   "vzeroupper"
#define CLEAR_SSE "xorps %%xmm14, %%xmm14\n\txorps %%xmm15, %%xmm15"

#define DPBUSD(sum)  "vpdpbusd %%zmm14, %%zmm15, %%zmm" sum "\n\t"
#define DPBF16(sum)  "vdpbf16ps %%zmm14, %%zmm15, %%zmm" sum "\n\t"
#define FMA_512(sum) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" sum "\n\t"
#define FMA_256(sum) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" sum "\n\t"
#define MULPS(sum, t)                                                                              \
    "movaps %%xmm14, %%xmm" t "\n\tmulps %%xmm15, %%xmm" t "\n\taddps %%xmm" t ", %%xmm" sum "\n"  \
    "\t"
#define MADDUBS(sum, t)                                                                            \
    "vpmaddubsw %%ymm14, %%ymm15, %%ymm" t "\n\tvpmaddwd %%ymm" t ", %%ymm13, %%ymm" t             \
    "\n\tvpaddd %%ymm" t ", %%ymm" sum ", %%ymm" sum "\n\t"
#define MADDWD(sum, t)                                                                             \
    "vpmaddwd %%ymm14, %%ymm15, %%ymm" t "\n\tvpaddd %%ymm" t ", %%ymm" sum ", %%ymm" sum "\n\t"
#define PAIRS(sum, t)                                                                              \
    "vpaddw %%ymm14, %%ymm15, %%ymm" t "\n\tvpaddw %%ymm13, %%ymm15, %%ymm12\n\t"                  \
    "vpmaddwd %%ymm" t ", %%ymm12, %%ymm" t "\n\tvpaddd %%ymm" t ", %%ymm" sum ", %%ymm" sum       \
    "\n\t"

LOOP(loop_dpbusd, CLEAR_AVX, END_AVX, TWELVE(DPBUSD))
LOOP(loop_dpbf16, CLEAR_AVX, END_AVX, TWELVE(DPBF16))
LOOP(loop_fma_512, CLEAR_AVX, END_AVX, TWELVE(FMA_512))
LOOP(loop_fma_256, CLEAR_AVX, END_AVX, TWELVE(FMA_256))
LOOP(loop_maddubs, CLEAR_AVX, END_AVX, SIX(MADDUBS) SIX(MADDUBS))
LOOP(loop_maddwd, CLEAR_AVX, END_AVX, SIX(MADDWD) SIX(MADDWD))
LOOP(loop_pairs, CLEAR_AVX, END_AVX, SIX(PAIRS) SIX(PAIRS))
LOOP(loop_mulps, CLEAR_SSE, "", SIX(MULPS) SIX(MULPS))

static bool has_vnni(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
}

static bool has_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16");
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_sse2(void)
{
    return true;
}

static const struct loop loops[] = {
    {"int8", "avx512-vnni", has_vnni, loop_dpbusd, 12 * 128},
    {"int8", "avx2", has_avx2, loop_maddubs, 12 * 64},
    {"int16 pairs", "avx2", has_avx2, loop_pairs, 12 * 64},
    {"int16", "avx2", has_avx2, loop_maddwd, 12 * 32},
    {"bf16", "avx512-bf16", has_bf16, loop_dpbf16, 12 * 64},
    {"f32", "avx512", has_avx512, loop_fma_512, 12 * 32},
    {"f32", "avx2", has_avx2, loop_fma_256, 12 * 16},
    {"f32", "sse2", has_sse2, loop_mulps, 12 * 8},
};
enum { LOOPS = sizeof(loops) / sizeof(loops[0]) };

/* The widest loads that the processor has: narrow ones do not keep memory busy. */
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))

#else /* no loops for other processors yet: only memory is measured */

static const struct loop loops[1];
enum { LOOPS = 0 };
#define WIDEST

#endif

_Static_assert(LOOPS + 1 <= CEILINGS_MAX, "room for all");

/* What the threads of one measurement share. */
struct field {
    pthread_barrier_t start;
    const struct loop *loop; /* NULL: reads */
    uint64_t rounds;
    uint8_t *memory;
    size_t bytes; /* of each thread */
};

struct runner {
    pthread_t thread;
    struct field *field;
    uint32_t index;
    uint64_t sum; /* of what was read, so that it is read */
    uint64_t worked_ns;
};

typedef uint64_t line __attribute__((vector_size(64)));

/* One pass, in as many streams as a product has rows of weights before it. */
WIDEST static uint64_t read_memory(const line *lines, size_t count)
{
    const size_t part = count / STREAMS;
    line sum[STREAMS] = {0};

    for (size_t i = 0; i < part; i++)
        for (size_t stream = 0; stream < STREAMS; stream++)
            sum[stream] ^= lines[stream * part + i];
    for (size_t stream = 1; stream < STREAMS; stream++)
        sum[0] ^= sum[stream];
    return sum[0][0] ^ sum[0][1] ^ sum[0][2] ^ sum[0][3] ^ sum[0][4] ^ sum[0][5] ^ sum[0][6] ^
           sum[0][7];
}

static void work(struct runner *runner)
{
    struct field *field = runner->field;
    uint8_t *mine = field->memory + field->bytes * runner->index;

    if (field->loop != NULL) {
        field->loop->run(field->rounds);
        return;
    }
    for (int pass = 0; pass < READ_PASSES; pass++) {
        runner->sum += read_memory((const line *)(const void *)mine, field->bytes / sizeof(line));
        __asm__ volatile("" : : : "memory");
    }
}

/* The index-th of the cores that this process may use. */
static void pin(uint32_t index)
{
    cpu_set_t allowed, one;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    index %= (uint32_t)CPU_COUNT(&allowed);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &allowed) && index-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
            return;
        }
}

/* Processor time: what others take from a busy machine does not lower the ceiling. */
static uint64_t thread_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *run_thread(void *arg)
{
    struct runner *runner = arg;
    struct field *field = runner->field;
    uint64_t begin_ns;

    pin(runner->index);
    if (field->loop == NULL) /* pages lie near the core that touches them first */
        memset(field->memory + field->bytes * runner->index, 1, field->bytes);
    pthread_barrier_wait(&field->start);
    begin_ns = thread_ns();
    work(runner);
    runner->worked_ns = thread_ns() - begin_ns;
    return NULL;
}

/* Runs it on all threads; the sum over the threads of one over the nanoseconds that each worked. */
static double run_once(struct field *field, uint32_t threads)
{
    struct runner runner[THREADS_MAX] = {0};
    double rate = 0.0;

    pthread_barrier_init(&field->start, NULL, threads);
    for (uint32_t i = 0; i < threads; i++) {
        runner[i].field = field;
        runner[i].index = i;
        if (pthread_create(&runner[i].thread, NULL, run_thread, &runner[i]) != 0)
            abort();
    }
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(runner[i].thread, NULL);
        rate += 1.0 / (double)(runner[i].worked_ns > 0 ? runner[i].worked_ns : 1);
    }
    pthread_barrier_destroy(&field->start);
    return rate;
}

static double measure_loop(const struct loop *loop, uint32_t threads)
{
    struct field field = {.loop = loop, .rounds = 100000};
    double best = 0.0;

    while (run_once(&field, threads) > (double)threads / RUN_NS_MIN)
        field.rounds *= 2;
    for (int run = 0; run < RUNS; run++) {
        const double rate =
            (double)loop->operations * (double)field.rounds * run_once(&field, threads);

        best = rate > best ? rate : best;
    }
    return best;
}

static double measure_reads(uint32_t threads)
{
    struct field field = {.bytes = READ_BYTES / threads / 4096 * 4096};
    const size_t bytes = field.bytes * threads;
    double best = 0.0;

    field.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (field.memory == MAP_FAILED)
        return 0.0;
    madvise(field.memory, bytes, MADV_HUGEPAGE);
    for (int run = 0; run < RUNS; run++) {
        const double rate = (double)field.bytes * READ_PASSES * run_once(&field, threads);

        best = rate > best ? rate : best;
    }
    munmap(field.memory, bytes);
    return best;
}

static uint32_t cores(void)
{
    cpu_set_t allowed;

    return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 ? (uint32_t)CPU_COUNT(&allowed) : 1;
}

uint32_t ceilings_measure(uint32_t threads, struct ceiling ret[CEILINGS_MAX])
{
    uint32_t count = 0;

    threads = threads == 0 ? cores() : threads > THREADS_MAX ? THREADS_MAX : threads;
    for (int i = 0; i < LOOPS; i++) {
        struct ceiling *ceiling = &ret[count++];

        *ceiling = (struct ceiling){loops[i].kind, loops[i].isa, "GOP/s", loops[i].here(), 0.0};
        if (ceiling->here)
            ceiling->rate = measure_loop(&loops[i], threads);
    }
    ret[count] = (struct ceiling){"read", "", "GB/s", true, measure_reads(threads)};
    return count + 1;
}

const struct ceiling *ceilings_find(const struct ceiling *ceiling, uint32_t count, const char *kind,
                                    const char *isa)
{
    const struct ceiling *best = NULL;

    for (uint32_t i = 0; i < count; i++)
        if (ceiling[i].here && strcmp(ceiling[i].kind, kind) == 0 &&
            (isa == NULL || strcmp(ceiling[i].isa, isa) == 0) &&
            (best == NULL || ceiling[i].rate > best->rate))
            best = &ceiling[i];
    return best;
}
