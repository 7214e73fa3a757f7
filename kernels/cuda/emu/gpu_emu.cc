/*
 * gpu_emu.cc: struct gpu_module (gpu.h) on this machine's processor: a machine (block.cuh) that
 * runs launches, a queue in front of it, memory, events and graphs. Only what the queue runs
 * touches the machine; what went wrong, and events, are under the gpu's lock.
 */
#include "kernels/cuda/emu/gpu_emu.cuh"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/cuda/emu/memory.cuh"
#include "kernels/cuda/emu/queue.cuh"
#include "kernels/cuda/emu/symbols.cuh"
#include "kernels/cuda/table.cuh"

enum { EMU_DRIVER = 13000, NS_PER_MS = 1000000 };

struct gpu_event {
    struct gpu_event *next;
    uint64_t recorded, happened; /* how often: each record waits for its own */
    uint64_t time_ns;            /* of the last that happened */
};

struct gpu_graph {
    struct gpu_graph *next;
    unsigned char *entries;
    size_t bytes, room;
};

struct gpu {
    struct gpu_about about;
    struct emu_settings settings;
    struct emu_memory memory;
    struct emu_queue *queue;
    struct simt_machine *machine; /* the queue's alone */
    uint64_t launches;            /* the queue's alone */
    uint64_t spent_ns;            /* the queue's alone: emu_spend() */
    struct gpu_event *events;
    struct gpu_graph *graphs;
    struct gpu_graph *captured; /* being recorded */
    bool lost;                  /* what was recorded is not whole */
    pthread_mutex_t lock;
    pthread_cond_t happened;
    bool faulty;
    char fault[320];
};

/* ---- faults ---- */

void emu_fault(struct gpu *gpu, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    pthread_mutex_lock(&gpu->lock);
    if (!gpu->faulty)
        vsnprintf(gpu->fault, sizeof(gpu->fault), format, list);
    gpu->faulty = true;
    pthread_mutex_unlock(&gpu->lock);
    va_end(list);
}

static const char *fault(struct gpu *gpu)
{
    const char *what;

    pthread_mutex_lock(&gpu->lock);
    what = gpu->faulty ? gpu->fault : NULL;
    pthread_mutex_unlock(&gpu->lock);
    return what;
}

void emu_spend(struct gpu *gpu, uint64_t ns)
{
    gpu->spent_ns += ns;
}

const struct emu_settings *emu_settings_of(const struct gpu *gpu)
{
    return &gpu->settings;
}

/* ---- which cards there are ---- */

void emu_describe(uint32_t index, const struct emu_settings *settings, struct gpu_about *about)
{
    static const struct {
        uint32_t capability, shared_kib, l2_mib;
    } kinds[] = {{80, 163, 40}, {86, 99, 6}, {89, 99, 72}, {90, 227, 50}};

    memset(about, 0, sizeof(*about));
    snprintf(about->name, sizeof(about->name), "emulated GPU");
    snprintf(about->uuid, sizeof(about->uuid), "GPU-00000000-0000-4000-8000-%012x", index);
    snprintf(about->bus, sizeof(about->bus), "00000000:%02X:00.0", index + 1);
    about->capability = static_cast<uint32_t>(settings->capability);
    about->processors = static_cast<uint32_t>(settings->processors);
    about->memory_bytes = settings->memory_mib << 20;
    for (const auto &kind : kinds)
        if (kind.capability == about->capability) {
            about->shared_bytes = kind.shared_kib << 10;
            about->l2_bytes = kind.l2_mib << 20;
        }
}

static uint32_t list(struct gpu_about about[GPUS_MAX], uint32_t *driver, const char **why)
{
    struct emu_settings settings;

    *driver = EMU_DRIVER;
    if (!emu_settings_read(&settings, why))
        return 0;
    if (settings.devices == 0)
        *why = "MSERVE_EMU says devices=0";
    for (uint32_t i = 0; i < settings.devices; i++)
        emu_describe(i, &settings, &about[i]);
    return static_cast<uint32_t>(settings.devices);
}

/* ---- the queue ---- */

/* On the queue's thread: the order of the calls. */
static void run_entry(struct gpu *gpu, const struct emu_entry *entry)
{
    if (entry->always || fault(gpu) == NULL)
        entry->run(gpu, emu_entry_args(entry));
}

static void record(struct gpu *gpu, const struct emu_entry *entry, const void *args, size_t bytes)
{
    struct gpu_graph *graph = gpu->captured;
    uint32_t size = emu_entry_bytes(bytes);
    struct emu_entry *to;

    if (graph->bytes + size > graph->room) {
        size_t room = graph->room * 2 + size + 65536;
        void *more = realloc(graph->entries, room);
        if (more == NULL) {
            gpu->lost = true;
            return;
        }
        graph->entries = static_cast<unsigned char *>(more);
        graph->room = room;
    }
    to = reinterpret_cast<struct emu_entry *>(graph->entries + graph->bytes);
    *to = *entry;
    to->bytes = size;
    memcpy(to + 1, args, bytes);
    graph->bytes += size;
}

/* Work: recorded while the gpu captures, else enqueued. */
static void put(struct gpu *gpu, const char *name, void (*run)(struct gpu *gpu, const void *args),
                const void *args, size_t bytes)
{
    const struct emu_entry entry = {run, name, 0, false};

    if (gpu->captured != NULL)
        record(gpu, &entry, args, bytes);
    else
        emu_queue_put(gpu->queue, &entry, args, bytes);
}

/* Of a launch that is due. False: it is the one that fails. */
static bool count_launch(struct gpu *gpu, const char *name)
{
    if (++gpu->launches != gpu->settings.fault_at)
        return true;
    emu_fault(gpu, "the launch of %s failed (MSERVE_EMU fault_at=%llu)", name,
              static_cast<unsigned long long>(gpu->settings.fault_at));
    return false;
}

struct alignas(16) launched {
    struct simt_launch launch;
};

struct alignas(16) called {
    const char *name;
    void (*run)(struct gpu *gpu, const void *args);
};

static void run_launch(struct gpu *gpu, const void *args)
{
    const struct launched *head = static_cast<const struct launched *>(args);

    if (count_launch(gpu, head->launch.name) &&
        !simt_machine_run(gpu->machine, &head->launch, head + 1))
        emu_fault(gpu, "there is no memory for the %u threads of %s", head->launch.threads,
                  head->launch.name);
}

static void run_call(struct gpu *gpu, const void *args)
{
    const struct called *head = static_cast<const struct called *>(args);

    if (count_launch(gpu, head->name))
        head->run(gpu, head + 1);
}

void simt_enqueue(struct gpu *gpu, const struct simt_launch *launch, const void *args, size_t bytes)
{
    alignas(16) unsigned char both[EMU_ARGS_MAX];
    const struct launched head = {*launch};

    if (launch->grid == 0)
        return;
    if (launch->threads == 0 || launch->threads % LANES != 0 || launch->threads > THREADS_MAX) {
        emu_fault(gpu, "the launch of %s asks for blocks of %u threads", launch->name,
                  launch->threads);
        return;
    }
    if (launch->shared_bytes > gpu->about.shared_bytes) {
        emu_fault(gpu, "the launch of %s asks for %zu bytes of shared memory, there are %u",
                  launch->name, launch->shared_bytes, gpu->about.shared_bytes);
        return;
    }
    memcpy(both, &head, sizeof(head));
    memcpy(both + sizeof(head), args, bytes);
    put(gpu, launch->name, run_launch, both, sizeof(head) + bytes);
}

void emu_enqueue(struct gpu *gpu, const char *name, void (*run)(struct gpu *gpu, const void *args),
                 const void *args, size_t bytes)
{
    alignas(16) unsigned char both[EMU_ARGS_MAX];
    const struct called head = {name, run};

    if (bytes + sizeof(head) > sizeof(both)) {
        emu_fault(gpu, "%s has an argument of %zu bytes", name, bytes);
        return;
    }
    memcpy(both, &head, sizeof(head));
    memcpy(both + sizeof(head), args, bytes);
    put(gpu, name, run_call, both, sizeof(head) + bytes);
}

/* ---- memory ---- */

static uint64_t memory_free(struct gpu *gpu)
{
    return emu_memory_free(&gpu->memory);
}

static void *take(struct gpu *gpu, size_t bytes)
{
    return emu_memory_take(&gpu->memory, bytes, false);
}

static void *take_host(struct gpu *gpu, size_t bytes)
{
    return emu_memory_take(&gpu->memory, bytes, true);
}

/* As on the card, what uses the memory comes to its end first. */
static void give_back(struct gpu *gpu, void *at, bool host)
{
    if (at == NULL)
        return;
    emu_queue_drain(gpu->queue);
    if (!emu_memory_give(&gpu->memory, at, host))
        emu_fault(gpu, "memory is given back that was not taken");
}

static void give(struct gpu *gpu, void *at)
{
    give_back(gpu, at, false);
}

static void give_host(struct gpu *gpu, void *at)
{
    give_back(gpu, at, true);
}

struct copied {
    void *to;
    const void *from;
    size_t bytes;
};

static void run_copy(struct gpu *, const void *args)
{
    const struct copied *copied = static_cast<const struct copied *>(args);

    memmove(copied->to, copied->from, copied->bytes);
}

static void run_zero(struct gpu *, const void *args)
{
    const struct copied *copied = static_cast<const struct copied *>(args);

    memset(copied->to, 0, copied->bytes);
}

/* True for memory that was taken; a fault where it begins in there and ends outside. */
static bool is_taken(struct gpu *gpu, const void *at, size_t bytes, const char *doing)
{
    const struct emu_block *block = emu_memory_find(&gpu->memory, at);
    const char *byte = static_cast<const char *>(at);

    if (block != NULL && bytes > block->bytes - static_cast<size_t>(byte - block->at))
        emu_fault(gpu, "%s of %zu bytes goes over the end of its memory", doing, bytes);
    return block != NULL;
}

static void copy(struct gpu *gpu, void *to, const void *from, size_t bytes)
{
    const struct copied copied = {to, from, bytes};
    bool known;

    if (bytes == 0)
        return;
    known = is_taken(gpu, to, bytes, "a copy");
    known = is_taken(gpu, from, bytes, "a copy") && known;
    if (!known && gpu->captured != NULL) {
        emu_fault(gpu, "a copy from or to memory that was not taken cannot be recorded");
        return;
    }
    put(gpu, "copy", run_copy, &copied, sizeof(copied));
    if (!known)
        emu_queue_drain(gpu->queue);
}

static void zero(struct gpu *gpu, void *at, size_t bytes)
{
    const struct copied copied = {at, NULL, bytes};

    if (bytes == 0)
        return;
    if (!is_taken(gpu, at, bytes, "a row of zeros"))
        emu_fault(gpu, "zeros are to be written to memory that was not taken");
    put(gpu, "zero", run_zero, &copied, sizeof(copied));
}

/* ---- events ---- */

static struct gpu_event *event_new(struct gpu *gpu)
{
    struct gpu_event *event = static_cast<struct gpu_event *>(calloc(1, sizeof(*event)));

    if (event == NULL)
        return NULL;
    event->next = gpu->events;
    gpu->events = event;
    return event;
}

static void run_event(struct gpu *gpu, const void *args)
{
    struct gpu_event *event = *static_cast<struct gpu_event *const *>(args);
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&gpu->lock);
    event->happened++;
    event->time_ns = static_cast<uint64_t>(now.tv_sec) * 1000 * NS_PER_MS +
                     static_cast<uint64_t>(now.tv_nsec) + gpu->spent_ns;
    pthread_cond_broadcast(&gpu->happened);
    pthread_mutex_unlock(&gpu->lock);
}

static void event_record(struct gpu *gpu, struct gpu_event *event)
{
    const struct emu_entry entry = {run_event, "event", 0, true};

    if (gpu->captured != NULL) {
        emu_fault(gpu, "an event cannot be recorded in a graph");
        return;
    }
    event->recorded++;
    emu_queue_put(gpu->queue, &entry, &event, sizeof(event));
}

static bool event_wait(struct gpu *gpu, struct gpu_event *event, int timeout_ms)
{
    struct timespec until;
    bool happened;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * static_cast<long>(NS_PER_MS);
        until.tv_sec += until.tv_nsec / (1000L * NS_PER_MS);
        until.tv_nsec %= 1000L * NS_PER_MS;
    }
    pthread_mutex_lock(&gpu->lock);
    while (event->happened < event->recorded && timeout_ms != 0 && rc == 0)
        rc = timeout_ms < 0 ? pthread_cond_wait(&gpu->happened, &gpu->lock)
                            : pthread_cond_timedwait(&gpu->happened, &gpu->lock, &until);
    happened = event->happened >= event->recorded;
    pthread_mutex_unlock(&gpu->lock);
    return happened;
}

static float event_ms(struct gpu *gpu, struct gpu_event *begin, struct gpu_event *end)
{
    int64_t ns;

    pthread_mutex_lock(&gpu->lock);
    ns = static_cast<int64_t>(end->time_ns - begin->time_ns);
    pthread_mutex_unlock(&gpu->lock);
    return static_cast<float>(static_cast<double>(ns) / 1e6);
}

/* ---- graphs ---- */

static void capture_begin(struct gpu *gpu)
{
    if (gpu->captured != NULL) {
        emu_fault(gpu, "a capture begins within a capture");
        return;
    }
    gpu->captured = static_cast<struct gpu_graph *>(calloc(1, sizeof(*gpu->captured)));
    gpu->lost = gpu->captured == NULL;
    if (gpu->lost)
        emu_fault(gpu, "there is no memory for a graph");
}

static void graph_free(struct gpu_graph *graph)
{
    free(graph->entries);
    free(graph);
}

static struct gpu_graph *capture_end(struct gpu *gpu)
{
    struct gpu_graph *graph = gpu->captured;

    gpu->captured = NULL;
    if (graph == NULL || gpu->lost || fault(gpu) != NULL) {
        emu_fault(gpu, graph == NULL ? "a capture ends that has not begun"
                                     : "there is no memory for a graph");
        if (graph != NULL)
            graph_free(graph);
        return NULL;
    }
    graph->next = gpu->graphs;
    gpu->graphs = graph;
    return graph;
}

static void run_graph(struct gpu *gpu, const void *args)
{
    const struct gpu_graph *graph = *static_cast<struct gpu_graph *const *>(args);
    const struct emu_entry *entry;

    for (size_t at = 0; at < graph->bytes; at += entry->bytes) {
        entry = reinterpret_cast<const struct emu_entry *>(graph->entries + at);
        run_entry(gpu, entry);
    }
}

static void graph_launch(struct gpu *gpu, struct gpu_graph *graph)
{
    if (gpu->captured != NULL)
        emu_fault(gpu, "a graph is launched within a capture");
    else
        put(gpu, "graph", run_graph, &graph, sizeof(graph));
}

/* ---- opening and closing ---- */

static void close(struct gpu *gpu)
{
    if (gpu == NULL)
        return;
    emu_queue_stop(gpu->queue);
    simt_machine_free(gpu->machine);
    emu_memory_give_all(&gpu->memory);
    while (gpu->events != NULL) {
        struct gpu_event *next = gpu->events->next;
        free(gpu->events);
        gpu->events = next;
    }
    while (gpu->graphs != NULL) {
        struct gpu_graph *next = gpu->graphs->next;
        graph_free(gpu->graphs);
        gpu->graphs = next;
    }
    if (gpu->captured != NULL)
        graph_free(gpu->captured);
    pthread_cond_destroy(&gpu->happened);
    pthread_mutex_destroy(&gpu->lock);
    free(gpu);
}

static void init_lock(struct gpu *gpu)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&gpu->happened, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&gpu->lock, NULL);
}

static struct gpu *open(uint32_t index, const char **why)
{
    struct emu_settings settings;
    struct gpu *gpu;

    if (!emu_settings_read(&settings, why))
        return NULL;
    *why = "there is no such emulated GPU";
    if (index >= settings.devices)
        return NULL;
    *why = "there is no memory for an emulated GPU";
    gpu = static_cast<struct gpu *>(calloc(1, sizeof(*gpu)));
    if (gpu == NULL)
        return NULL;
    gpu->settings = settings;
    emu_describe(index, &settings, &gpu->about);
    gpu->memory.card = index;
    gpu->memory.limit_bytes = gpu->about.memory_bytes;
    init_lock(gpu);
    gpu->machine = simt_machine_new(gpu->about.shared_bytes, settings.order, settings.copies_late,
                                    settings.seed);
    gpu->queue = emu_queue_start(gpu, run_entry, settings.direct);
    if (gpu->machine == NULL || gpu->queue == NULL) {
        close(gpu);
        return NULL;
    }
    return gpu;
}

static void *stream(struct gpu *gpu)
{
    return gpu;
}

static const struct gpu_module module = {
    GPU_FACE,      "cuda-emu",  EMU_DRIVER,   list,         open,       close,
    fault,         memory_free, take,         take_host,    give,       give_host,
    copy,          zero,        event_new,    event_record, event_wait, event_ms,
    capture_begin, capture_end, graph_launch, stream,       emu_symbol, &gpu_kernels,
};

extern "C" __attribute__((visibility("default"))) const struct gpu_module *mserve_gpu_module(void);

const struct gpu_module *mserve_gpu_module(void)
{
    return &module;
}
