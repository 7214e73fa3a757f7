/*
 * gpu.h: the face of a GPU as the `cuda` backend sees it: memory, one queue, events, graphs, and
 * the kernels of launch.h. Two modules have this face, shared objects that kernels/cuda/module.h
 * opens at run time: `mserve-cuda.so`, compiled by nvcc against the CUDA run time, and
 * `mserve-cuda-emu.so`, compiled by the C++ compiler, which plays a GPU on this machine's processor
 * (kernels/cuda/emu). All host code above it is the same object code for both.
 *
 * QUEUE A gpu has one queue. What is enqueued (copies, zeros, launches, events, graphs) runs in the
 * order of the calls; enqueuing allocates nothing, waits for nothing and returns nothing. What goes
 * wrong is kept: fault() says what was first, and what is enqueued after that may do nothing.
 *
 * CAPTURE Between capture_begin() and capture_end() launches, copies and zeros are recorded instead
 * of enqueued. The graph replays them with the same addresses and arguments.
 *
 * THREADS One thread uses a gpu at a time. list() may be called by any.
 */
#ifndef MSERVE_KERNELS_CUDA_GPU_H
#define MSERVE_KERNELS_CUDA_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gpu;         /* an opened card and its queue */
struct gpu_event;   /* a mark in the queue */
struct gpu_graph;   /* recorded launches */
struct gpu_kernels; /* kernels/cuda/launch.h */

/* Raised when anything here or in launch.h changes: a module of another face is refused. */
enum { GPU_FACE = 1, GPUS_MAX = 64 };

struct gpu_about {
    char name[96];         /* "NVIDIA H200" */
    char uuid[48];         /* "GPU-" and 36 characters, as nvidia-smi -L prints them */
    char bus[24];          /* "00000000:65:00.0", by which NVML knows it too */
    uint32_t capability;   /* 80, 86, 89, 90 … : major * 10 + minor */
    uint32_t processors;   /* streaming multiprocessors */
    uint32_t shared_bytes; /* of shared memory that one block can have */
    uint32_t l2_bytes;
    uint64_t memory_bytes; /* all of it */
};

struct gpu_module {
    uint32_t face;    /* GPU_FACE of its build */
    const char *name; /* "cuda", "cuda-emu": begins the numerics id */
    uint32_t runtime; /* 13000 for 13.0 */

    /*
     * The GPUs that this process may use, at most GPUS_MAX, and the driver's version (0: none).
     * Without one (no driver, no GPU) 0, and *why is the reason in words.
     */
    uint32_t (*list)(struct gpu_about about[GPUS_MAX], uint32_t *driver, const char **why);

    /* NULL: *why says so in words. Everything of the gpu goes with close(), NULL is allowed. */
    struct gpu *(*open)(uint32_t index, const char **why);
    void (*close)(struct gpu *gpu);

    /* The first thing that went wrong, NULL when nothing did. Sticky: nothing works after it. */
    const char *(*fault)(struct gpu *gpu);

    /* Bytes that are free on the card now, other processes' counted out. */
    uint64_t (*memory_free)(struct gpu *gpu);

    /* Device memory, aligned to 256 bytes, contents undefined; host memory the card can reach
     * directly, zeros. NULL: there is no more. Both may be given back; close() gives back
     * the rest. */
    void *(*take)(struct gpu *gpu, size_t bytes);
    void *(*take_host)(struct gpu *gpu, size_t bytes);
    void (*give)(struct gpu *gpu, void *at);
    void (*give_host)(struct gpu *gpu, void *at);

    /* Host memory that is copied from or to is of take_host(), or the call waits. */
    void (*copy)(struct gpu *gpu, void *to, const void *from, size_t bytes);
    void (*zero)(struct gpu *gpu, void *at, size_t bytes);

    struct gpu_event *(*event_new)(struct gpu *gpu); /* NULL: no more */
    void (*event_record)(struct gpu *gpu, struct gpu_event *event);
    /* True when what was enqueued before the record has run, or failed. 0 looks, -1 waits. */
    bool (*event_wait)(struct gpu *gpu, struct gpu_event *event, int timeout_ms);
    /* Of two events that have happened, on the card's clock. */
    float (*event_ms)(struct gpu *gpu, struct gpu_event *begin, struct gpu_event *end);

    void (*capture_begin)(struct gpu *gpu);
    struct gpu_graph *(*capture_end)(struct gpu *gpu); /* NULL: a fault */
    void (*graph_launch)(struct gpu *gpu, struct gpu_graph *graph);

    /* The queue, as cuBLASLt wants it (cudaStream_t). */
    void *(*stream)(struct gpu *gpu);

    /*
     * A function of a library that the module brings itself, by its C name ("cublasLtMatmul",
     * "nvmlInit_v2"): the emulation has its own of both. NULL where it has none: then the library
     * is looked for on this machine (library.h).
     */
    void *(*symbol)(const char *name);

    const struct gpu_kernels *kernels;
};

/* The one symbol that a module exports: const struct gpu_module *mserve_gpu_module(void). */
#define GPU_MODULE_SYMBOL "mserve_gpu_module"

#ifdef __cplusplus
}
#endif

#endif
