/*
 * bench_matrix.c: products of packed matrices in the shapes of a Llama of 1.1 billion weights, beside
 * what the machine can do at most, both measured in one run.
 *
 *     bench_matrix [ISA [FORMAT [ROWS]]]     "" is every level that the machine runs, every format
 *
 * A rate is work by the processor time of the thread that took longest, the best of many short runs:
 * the machine may be busy with other things. Weights are read from memory, not from a cache: there are
 * as many copies as fill RING_BYTES, and operands are prepared within the time.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "kernels/bench/ceilings.h"
#include "kernels/cpu/matrix.h"
#include "kernels/model/gguf.h"
#include "kernels/model/tensor.h"

enum { THREADS_MAX = 2, RING_BYTES = 192 << 20, RUNS_MIN = 12, COPIES_MAX = 64 };

static const uint32_t shapes[][2] = {{2048, 2048}, {5632, 2048}, {2048, 5632}, {32000, 2048}};
static const uint32_t counts[] = {1, 4, 8, 16, 32, 128, 512};
static const uint32_t types[] = {TENSOR_Q8_0, TENSOR_BF16, TENSOR_F16, TENSOR_F32};

struct load {
    struct matrix matrix[COPIES_MAX];
    uint32_t copies;
    uint32_t rows;
    uint32_t threads;
    float *in;
    float *out;
    uint8_t *input;
    uint8_t *memory;
    size_t memory_bytes;
    uint32_t run;
    pthread_barrier_t barrier;
    double cpu_s[THREADS_MAX];
};

struct part {
    struct load *load;
    uint32_t thread;
};

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void pin(uint32_t thread)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(thread, &set);
    pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void *take(size_t bytes)
{
    size_t huge = 2 << 20, whole = (bytes + huge - 1) / huge * huge;
    void *memory = aligned_alloc(huge, whole);

    if (memory == NULL) {
        fprintf(stderr, "bench_matrix: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    madvise(memory, whole, MADV_HUGEPAGE);
    memset(memory, 0, whole);
    return memory;
}

/* One thread's share of one product: its rows are prepared, and its outputs multiplied. */
static void *work(void *arg)
{
    const struct part *part = arg;
    struct load *load = part->load;
    const struct matrix *m = &load->matrix[load->run % load->copies];
    uint32_t tiles = (m->outputs + m->tile - 1) / m->tile, t = part->thread, of = load->threads;
    uint32_t n0 = tiles * t / of * m->tile, n1 = tiles * (t + 1) / of * m->tile;
    uint32_t r0 = load->rows * t / of, r1 = load->rows * (t + 1) / of;
    double begin, prepared;

    if (n1 > m->outputs)
        n1 = m->outputs;
    pin(t);
    pthread_barrier_wait(&load->barrier);
    begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    matrix_prepare(m, load->in + (size_t)r0 * m->inputs, m->inputs, r1 - r0,
                   load->input + r0 * m->row_bytes);
    prepared = seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    pthread_barrier_wait(&load->barrier);
    begin = seconds(CLOCK_THREAD_CPUTIME_ID);
    matrix_multiply(m, load->input, load->rows, n0, n1, load->out, m->outputs);
    load->cpu_s[t] = prepared + seconds(CLOCK_THREAD_CPUTIME_ID) - begin;
    return NULL;
}

/* The seconds of the best run. */
static double best_run(struct load *load)
{
    double best = 1e9, end = seconds(CLOCK_MONOTONIC) + 0.4;

    for (load->run = 0; load->run < RUNS_MIN || seconds(CLOCK_MONOTONIC) < end; load->run++) {
        struct part parts[THREADS_MAX];
        pthread_t threads[THREADS_MAX];
        double longest = 0.0;

        pthread_barrier_init(&load->barrier, NULL, load->threads);
        for (uint32_t t = 0; t < load->threads; t++) {
            parts[t] = (struct part){load, t};
            pthread_create(&threads[t], NULL, work, &parts[t]);
        }
        for (uint32_t t = 0; t < load->threads; t++) {
            pthread_join(threads[t], NULL);
            longest = load->cpu_s[t] > longest ? load->cpu_s[t] : longest;
        }
        pthread_barrier_destroy(&load->barrier);
        best = longest < best ? longest : best;
    }
    return best;
}

static void open_load(struct load *load, enum isa isa, uint32_t type, const uint32_t shape[2])
{
    const struct tensor_format *format = tensor_format(type);
    uint64_t len = (uint64_t)shape[0] * shape[1];
    uint64_t bytes = len / format->block_len * format->block_bytes;
    uint8_t *data = take(bytes);
    struct gguf_tensor tensor = {.type = type, .dims = 2, .dim = {shape[1], shape[0], 1, 1}};
    const struct gguf_tensor *tensors = &tensor;
    struct matrix matrix;

    for (uint64_t i = 0; i < bytes; i++) /* numbers below 2 in each format */
        data[i] = (uint8_t)((i * 2654435761u >> 7) & 0x3f);
    for (uint64_t i = 0; type == TENSOR_Q8_0 && i < bytes; i += 34) /* scales as in a model */
        data[i + 1] = 0x1c | (data[i + 1] & 3);
    tensor.len = len;
    tensor.data = data;
    if (matrix_plan(isa, &tensors, 1, &matrix) != ERR_OK)
        exit(1);
    load->copies = (uint32_t)(RING_BYTES / matrix.bytes) + 1;
    if (load->copies > COPIES_MAX)
        load->copies = COPIES_MAX;
    load->memory = take(load->copies * matrix.bytes);
    for (uint32_t i = 0; i < load->copies; i++) {
        load->matrix[i] = matrix;
        load->matrix[i].packed = load->memory + i * matrix.bytes;
        if (i > 0)
            memcpy(load->memory + i * matrix.bytes, load->memory, matrix.bytes);
        else if (matrix_pack(&matrix, &tensors, 1, 0, matrix.outputs, load->memory) != ERR_OK)
            exit(1);
    }
    free(data);
    load->in = take(512ul * shape[1] * sizeof(float));
    load->out = take(512ul * shape[0] * sizeof(float));
    load->input = take(512 * matrix.row_bytes);
    for (size_t i = 0; i < 512ul * shape[1]; i++)
        load->in[i] = (float)(i * 2654435761u >> 8 & 0xffff) / 32768.0f - 1.0f;
}

static void close_load(struct load *load)
{
    free(load->memory);
    free(load->in);
    free(load->out);
    free(load->input);
}

static void run_type(enum isa isa, uint32_t type, uint32_t only_rows)
{
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        static struct load load;

        open_load(&load, isa, type, shapes[s]);
        for (load.threads = 1; load.threads <= THREADS_MAX; load.threads++) {
            printf("%-24s %5ux%-5u %uT:", matrix_numerics(&load.matrix[0]), shapes[s][0],
                   shapes[s][1], load.threads);
            for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                double time;

                load.rows = counts[i];
                if (only_rows != 0 && load.rows != only_rows)
                    continue;
                time = best_run(&load);
                if (load.rows == 1)
                    printf(" %.1fGB/s", (double)load.matrix[0].bytes / time / 1e9);
                printf(" %.0f", 2.0 * load.rows * shapes[s][0] * shapes[s][1] / time / 1e9);
                fflush(stdout);
            }
            printf("\n");
        }
        close_load(&load);
    }
}

/* Whether a level has a product of its own for the format, and not that of a lower one. */
static bool own_product(enum isa isa, uint32_t type)
{
    struct gguf_tensor tensor = {.type = type, .dims = 2, .dim = {32, 1, 1, 1}};
    const struct gguf_tensor *tensors = &tensor;
    struct matrix matrix, lower;

    if (isa == ISA_SCALAR)
        return true;
    return matrix_plan(isa, &tensors, 1, &matrix) == ERR_OK &&
           matrix_plan(isa - 1, &tensors, 1, &lower) == ERR_OK && matrix.product != lower.product;
}

static void print_cpu(void)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (strncmp(line, "cpu family", 10) == 0 || strncmp(line, "model", 5) == 0) {
            printf("%s", line);
            if (strncmp(line, "model name", 10) == 0)
                break;
        }
    if (file != NULL)
        fclose(file);
}

static void print_ceilings(void)
{
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct ceiling ceiling[CEILINGS_MAX];
        uint32_t count = ceilings_measure(threads, ceiling);

        printf("ceilings, %uT:", threads);
        for (uint32_t i = 0; i < count; i++)
            if (ceiling[i].here)
                printf(" %s%s%s %.0f %s%s", ceiling[i].isa, ceiling[i].isa[0] != 0 ? " " : "",
                       ceiling[i].kind, ceiling[i].rate, ceiling[i].unit,
                       i + 1 < count ? "," : "\n");
    }
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "", *format = argc > 2 ? argv[2] : "";
    uint32_t rows = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;

    print_cpu();
    print_ceilings();
    printf("GOP/s at");
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        if (rows == 0 || counts[i] == rows)
            printf(" %u", counts[i]);
    printf(" rows, after GB/s of weights at 1\n");
    for (enum isa isa = isa_best() + 1; isa-- > ISA_SCALAR;)
        for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++)
            if ((name[0] == '\0' || strcmp(name, isa_name(isa)) == 0) &&
                (name[0] != '\0' || own_product(isa, types[t])) &&
                (format[0] == '\0' || strcmp(format, tensor_format(types[t])->name) == 0))
                run_type(isa, types[t], rows);
    return 0;
}
