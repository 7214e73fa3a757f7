/*
 * runtime.cu: struct gpu_module (gpu.h) on the CUDA run time. A gpu is one non-blocking stream of one
 * card; everything that is enqueued goes there.
 *
 * FAULTS Every call of the run time goes through seen(). The first that fails is put into words, with
 * what was enqueued last before it was noticed (the card works behind the host's back: with
 * CUDA_LAUNCH_BLOCKING=1 in the environment, that is the very launch that failed). After it nothing is
 * enqueued any more and every event counts as happened, so nobody waits for a dead card.
 *
 * The run time is linked statically and opens the driver (libcuda.so.1) itself when it is first asked;
 * a machine without one gets its answer from list(), in words.
 */
#include "kernels/cuda/enqueue.cuh"
#include "kernels/cuda/table.cuh"

#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLAIN_SHARED_BYTES = 48 * 1024 }; /* what a kernel may have without asking */

struct block {
    struct block *next;
    void *at;
};

struct gpu_event {
    struct gpu_event *next;
    cudaEvent_t mark;
};

struct gpu_graph {
    struct gpu_graph *next;
    cudaGraphExec_t run;
};

struct gpu {
    int index;
    cudaStream_t stream;
    bool capturing;
    struct block *blocks, *host_blocks;
    struct gpu_event *events;
    struct gpu_graph *graphs;
    const char *last;  /* what was enqueued last, by name */
    uint64_t enqueued; /* how much was */
    char fault[400];   /* empty: none */
};

/* ---- faults ---- */

/* True when all is well. The first fault is put into words; later ones say nothing new. */
static bool seen(struct gpu *gpu, cudaError_t error, const char *doing)
{
    if (error == cudaSuccess)
        return true;
    if (!gpu->fault[0])
        snprintf(gpu->fault, sizeof gpu->fault,
                 "%s: %s; noticed at %s, %llu enqueued on GPU %d, the last was %s",
                 cudaGetErrorName(error), cudaGetErrorString(error), doing,
                 (unsigned long long)gpu->enqueued, gpu->index, gpu->last);
    (void)cudaGetLastError(); /* those that are not sticky are not to be found by the next call */
    return false;
}

/* The card is the thread's, and nothing has gone wrong so far. */
static bool usable(struct gpu *gpu)
{
    return !gpu->fault[0] && seen(gpu, cudaSetDevice(gpu->index), "choosing the card");
}

static void enqueued(struct gpu *gpu, cudaError_t error, const char *name)
{
    gpu->last = name;
    gpu->enqueued++;
    (void)seen(gpu, error, name);
}

static const char *runtime_fault(struct gpu *gpu)
{
    if (!gpu->capturing && usable(gpu)) { /* a look at the queue would end a capture */
        cudaError_t error = cudaStreamQuery(gpu->stream);
        if (error != cudaErrorNotReady)
            (void)seen(gpu, error, "looking at the queue");
    }
    return gpu->fault[0] ? gpu->fault : NULL;
}

/* ---- which cards there are ---- */

static void print_uuid(char to[48], const cudaUUID_t *uuid)
{
    int length = snprintf(to, 48, "GPU-");

    for (int i = 0; i < 16; i++) {
        const char *dash = i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
        length += snprintf(to + length, (size_t)(48 - length), "%s%02x", dash,
                           (unsigned)(unsigned char)uuid->bytes[i]);
    }
}

static bool describe(int index, struct gpu_about *about)
{
    struct cudaDeviceProp card;

    if (cudaGetDeviceProperties(&card, index) != cudaSuccess)
        return false;
    memset(about, 0, sizeof *about);
    snprintf(about->name, sizeof about->name, "%.95s", card.name);
    print_uuid(about->uuid, &card.uuid);
    snprintf(about->bus, sizeof about->bus, "%08X:%02X:%02X.0", (unsigned)card.pciDomainID,
             (unsigned)card.pciBusID, (unsigned)card.pciDeviceID);
    about->capability = (uint32_t)(card.major * 10 + card.minor);
    about->processors = (uint32_t)card.multiProcessorCount;
    about->shared_bytes = (uint32_t)card.sharedMemPerBlockOptin;
    about->l2_bytes = (uint32_t)card.l2CacheSize;
    about->memory_bytes = card.totalGlobalMem;
    return true;
}

/* Why there are no cards; the words are the calling thread's until it asks again. */
static const char *why_none(cudaError_t error, int driver)
{
    static thread_local char words[240];

    if (driver == 0)
        snprintf(words, sizeof words, "this machine has no NVIDIA driver (libcuda.so.1)");
    else if (error == cudaErrorInsufficientDriver)
        snprintf(
            words, sizeof words,
            "the NVIDIA driver is for CUDA %d.%d, and this module needs one for %d.%d or later",
            driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    else if (error == cudaSuccess || error == cudaErrorNoDevice)
        snprintf(words, sizeof words, "the NVIDIA driver shows this process no GPU");
    else
        snprintf(words, sizeof words, "the NVIDIA driver does not answer: %s (%s)",
                 cudaGetErrorString(error), cudaGetErrorName(error));
    return words;
}

/* How many there are; 0: *why says why. Without a driver its version is 0. */
static uint32_t count_cards(int *driver, const char **why)
{
    int count = 0;
    cudaError_t error;

    *driver = 0;
    if (cudaDriverGetVersion(driver) != cudaSuccess)
        *driver = 0;
    error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0)
        return (uint32_t)count;
    *why = why_none(error, *driver);
    (void)cudaGetLastError();
    return 0;
}

static uint32_t runtime_list(struct gpu_about about[GPUS_MAX], uint32_t *driver, const char **why)
{
    int version;
    uint32_t found = 0, count = count_cards(&version, why);

    *driver = (uint32_t)version;
    /* about[i] is what open(i) opens, so a card that does not answer ends the list. */
    while (found < GPUS_MAX && found < count && describe((int)found, &about[found]))
        found++;
    if (count > 0 && found == 0)
        *why = why_none(cudaGetLastError(), version);
    return found;
}

/* ---- opening and closing ---- */

static void runtime_close(struct gpu *gpu)
{
    if (!gpu)
        return;
    /* What is said of a card that is gone, is said already: answers are not looked at. */
    (void)cudaSetDevice(gpu->index);
    (void)cudaStreamSynchronize(gpu->stream);
    for (struct gpu_graph *graph = gpu->graphs, *next; graph; graph = next) {
        next = graph->next;
        (void)cudaGraphExecDestroy(graph->run);
        free(graph);
    }
    for (struct gpu_event *event = gpu->events, *next; event; event = next) {
        next = event->next;
        (void)cudaEventDestroy(event->mark);
        free(event);
    }
    for (struct block *block = gpu->blocks, *next; block; block = next) {
        next = block->next;
        (void)cudaFree(block->at);
        free(block);
    }
    for (struct block *block = gpu->host_blocks, *next; block; block = next) {
        next = block->next;
        (void)cudaFreeHost(block->at);
        free(block);
    }
    if (gpu->stream)
        (void)cudaStreamDestroy(gpu->stream);
    (void)cudaGetLastError();
    free(gpu);
}

static struct gpu *runtime_open(uint32_t index, const char **why)
{
    static thread_local char words[400];
    int driver;
    struct gpu *gpu;

    if (count_cards(&driver, why) == 0)
        return NULL;
    gpu = (struct gpu *)calloc(1, sizeof *gpu);
    if (!gpu) {
        *why = "there is no memory";
        return NULL;
    }
    gpu->index = (int)index;
    gpu->last = "nothing";
    /* A host thread that waits sleeps: the cores are for those that have work. */
    if (seen(
            gpu,
            cudaInitDevice(gpu->index, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid),
            "opening the card") &&
        usable(gpu) &&
        seen(gpu, cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking), "making a queue"))
        return gpu;
    snprintf(words, sizeof words, "%s", gpu->fault);
    *why = words;
    runtime_close(gpu);
    return NULL;
}

static uint64_t runtime_memory_free(struct gpu *gpu)
{
    size_t unused = 0, all = 0;

    if (!usable(gpu) || !seen(gpu, cudaMemGetInfo(&unused, &all), "asking for free memory"))
        return 0;
    return unused;
}

/* ---- memory ---- */

/* Remembers what was taken; without memory for that it has not been taken. */
static bool keep(struct block **list, void *at)
{
    struct block *block = (struct block *)malloc(sizeof *block);

    if (!block)
        return false;
    *block = (struct block){*list, at};
    *list = block;
    return true;
}

/* True when it was ours. */
static bool forget(struct block **list, void *at)
{
    for (; *list; list = &(*list)->next)
        if ((*list)->at == at) {
            struct block *block = *list;

            *list = block->next;
            free(block);
            return true;
        }
    return false;
}

/* That there is no more is an answer and no fault: the caller says what he wanted it for. */
static bool granted(struct gpu *gpu, cudaError_t error, const char *doing)
{
    if (error != cudaErrorMemoryAllocation)
        return seen(gpu, error, doing);
    (void)cudaGetLastError();
    return false;
}

static void *runtime_take(struct gpu *gpu, size_t bytes)
{
    void *at = NULL;

    if (!usable(gpu) || !granted(gpu, cudaMalloc(&at, bytes ? bytes : 1), "taking memory"))
        return NULL;
    if (keep(&gpu->blocks, at))
        return at;
    (void)cudaFree(at);
    return NULL;
}

static void *runtime_take_host(struct gpu *gpu, size_t bytes)
{
    void *at = NULL;

    if (!usable(gpu) || !granted(gpu, cudaMallocHost(&at, bytes ? bytes : 1), "taking host memory"))
        return NULL;
    if (keep(&gpu->host_blocks, at))
        return memset(at, 0, bytes);
    (void)cudaFreeHost(at);
    return NULL;
}

static void runtime_give(struct gpu *gpu, void *at)
{
    if (at && forget(&gpu->blocks, at) && usable(gpu))
        (void)seen(gpu, cudaFree(at), "giving memory back");
}

static void runtime_give_host(struct gpu *gpu, void *at)
{
    if (at && forget(&gpu->host_blocks, at) && usable(gpu))
        (void)seen(gpu, cudaFreeHost(at), "giving host memory back");
}

/* ---- the queue ---- */

static void runtime_copy(struct gpu *gpu, void *to, const void *from, size_t bytes)
{
    if (bytes && usable(gpu))
        enqueued(gpu, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, gpu->stream), "a copy");
}

static void runtime_zero(struct gpu *gpu, void *at, size_t bytes)
{
    if (bytes && usable(gpu))
        enqueued(gpu, cudaMemsetAsync(at, 0, bytes, gpu->stream), "zeros");
}

/*
 * A kernel that wants more shared memory than all have has to say so once; saying it again changes
 * nothing. Capture forbids the thread such calls, for the sake of what they could do to other
 * streams; this one does nothing to them.
 */
static bool allow_shared(struct gpu *gpu, const struct launch_shape *shape)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    bool good;

    if (shape->shared_bytes <= PLAIN_SHARED_BYTES)
        return true;
    good = seen(gpu, cudaThreadExchangeStreamCaptureMode(&mode), shape->name) &&
           seen(gpu,
                cudaFuncSetAttribute(shape->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     (int)shape->shared_bytes),
                shape->name);
    return seen(gpu, cudaThreadExchangeStreamCaptureMode(&mode), shape->name) && good;
}

void gpu_enqueue(struct gpu *gpu, const struct launch_shape *shape, void **args)
{
    if (shape->grid && usable(gpu) && allow_shared(gpu, shape))
        enqueued(gpu,
                 cudaLaunchKernel(shape->kernel, dim3(shape->grid), dim3(shape->threads), args,
                                  shape->shared_bytes, gpu->stream),
                 shape->name);
}

static void *runtime_stream(struct gpu *gpu)
{
    return gpu->stream;
}

/* ---- events ---- */

static struct gpu_event *runtime_event_new(struct gpu *gpu)
{
    struct gpu_event *event = (struct gpu_event *)calloc(1, sizeof *event);

    if (!event || !usable(gpu) ||
        !seen(gpu, cudaEventCreateWithFlags(&event->mark, cudaEventBlockingSync),
              "making an event")) {
        free(event);
        return NULL;
    }
    event->next = gpu->events;
    gpu->events = event;
    return event;
}

static void runtime_event_record(struct gpu *gpu, struct gpu_event *event)
{
    if (usable(gpu))
        enqueued(gpu, cudaEventRecord(event->mark, gpu->stream), "an event");
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Looks until it has happened or the time is over, in pauses that grow from 20 us to 1 ms. */
static cudaError_t poll_event(cudaEvent_t mark, uint64_t until_ns)
{
    struct timespec pause = {0, 20000};
    cudaError_t error = cudaEventQuery(mark);

    while (error == cudaErrorNotReady && now_ns() < until_ns) {
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 1000000)
            pause.tv_nsec += pause.tv_nsec / 4;
        error = cudaEventQuery(mark);
    }
    return error;
}

static bool runtime_event_wait(struct gpu *gpu, struct gpu_event *event, int timeout_ms)
{
    cudaError_t error;

    if (!usable(gpu))
        return true;
    if (timeout_ms < 0)
        error = cudaEventSynchronize(event->mark);
    else
        error =
            poll_event(event->mark, timeout_ms ? now_ns() + (uint64_t)timeout_ms * 1000000u : 0);
    if (error == cudaErrorNotReady)
        return false;
    (void)seen(gpu, error, "waiting for an event");
    return true;
}

static float runtime_event_ms(struct gpu *gpu, struct gpu_event *begin, struct gpu_event *end)
{
    float ms = 0;

    if (!usable(gpu) ||
        !seen(gpu, cudaEventElapsedTime(&ms, begin->mark, end->mark), "reading the card's clock"))
        return 0;
    return ms;
}

/* ---- graphs ---- */

static void runtime_capture_begin(struct gpu *gpu)
{
    if (usable(gpu))
        gpu->capturing =
            seen(gpu, cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal),
                 "beginning a graph");
}

/* The recording becomes something that can be launched; it is on the card before its first time. */
static struct gpu_graph *instantiate(struct gpu *gpu, cudaGraph_t recorded)
{
    struct gpu_graph *graph = (struct gpu_graph *)calloc(1, sizeof *graph);

    if (!graph) {
        (void)seen(gpu, cudaErrorMemoryAllocation, "making a graph");
        return NULL;
    }
    if (!seen(gpu, cudaGraphInstantiate(&graph->run, recorded, 0), "making a graph")) {
        free(graph);
        return NULL;
    }
    graph->next = gpu->graphs;
    gpu->graphs = graph;
    (void)seen(gpu, cudaGraphUpload(graph->run, gpu->stream), "sending a graph to the card");
    return graph;
}

static struct gpu_graph *runtime_capture_end(struct gpu *gpu)
{
    struct gpu_graph *graph = NULL;
    cudaGraph_t recorded = NULL;
    bool was_capturing = gpu->capturing;

    /* A capture that went wrong is ended all the same, or the stream stays in it. */
    gpu->capturing = false;
    if (was_capturing && cudaSetDevice(gpu->index) == cudaSuccess &&
        seen(gpu, cudaStreamEndCapture(gpu->stream, &recorded), "ending a graph") && usable(gpu))
        graph = instantiate(gpu, recorded);
    if (recorded)
        (void)cudaGraphDestroy(recorded);
    return graph;
}

static void runtime_graph_launch(struct gpu *gpu, struct gpu_graph *graph)
{
    if (graph && usable(gpu))
        enqueued(gpu, cudaGraphLaunch(graph->run, gpu->stream), "a graph");
}

/* ---- the module ---- */

/* The libraries are the machine's own: nothing is brought along. */
static void *runtime_symbol(const char *name)
{
    (void)name;
    return NULL;
}

static const struct gpu_module module = {
    GPU_FACE,
    "cuda",
    CUDART_VERSION,
    runtime_list,
    runtime_open,
    runtime_close,
    runtime_fault,
    runtime_memory_free,
    runtime_take,
    runtime_take_host,
    runtime_give,
    runtime_give_host,
    runtime_copy,
    runtime_zero,
    runtime_event_new,
    runtime_event_record,
    runtime_event_wait,
    runtime_event_ms,
    runtime_capture_begin,
    runtime_capture_end,
    runtime_graph_launch,
    runtime_stream,
    runtime_symbol,
    &gpu_kernels,
};

extern "C" __attribute__((visibility("default"))) const struct gpu_module *mserve_gpu_module(void)
{
    return &module;
}
