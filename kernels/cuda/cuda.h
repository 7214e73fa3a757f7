/*
 * cuda.h: the inside of the `cuda` backend: cuda.c (tables, done), opening.c, weights.c (from the file
 * to the card), enqueue.c (each operation as launches), play.c (graphs), calibrate.c (prices);
 * areas.h, image.h, prices.h and timeline.h are their data. All of it is host code and sees a card
 * through gpu.h alone.
 */
#ifndef MSERVE_KERNELS_CUDA_CUDA_H
#define MSERVE_KERNELS_CUDA_CUDA_H

#include "kernels/cuda/areas.h"
#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/image.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.h"
#include "kernels/cuda/prices.h"
#include "kernels/cuda/timeline.h"
#include "kernels/model/forward.h"
#include "kernels/ops.h"
#include "kernels/step.h"

/* Of the layers, and the head. */
enum product { PRODUCT_QKV, PRODUCT_OUTPUT, PRODUCT_PAIR, PRODUCT_DOWN, PRODUCT_HEAD, PRODUCTS };

/* All addresses are the card's. */
struct weight {
    struct weight *next; /* of the backend's, for closing */
    enum number type;
    void *value;  /* [outputs][inputs]; of a gain f32 [inputs] */
    float *scale; /* [outputs] of fp8 and int8 */
    uint32_t outputs;
    uint32_t inputs;
    unsigned uses; /* enum weight_use */
};

/* Graphs of decode steps; one step is recorded or replayed at a time. */
enum play_phase { PLAY_FORWARD, PLAY_SAMPLE };
enum play_mode { PLAY_NOW, PLAY_RECORD, PLAY_REPLAY };
enum { PLAY_GRAPHS_MAX = 256 };

struct play_key {
    enum play_phase phase;
    uint32_t rows;  /* as products pad them */
    uint32_t kinds; /* of attention */
};

struct play {
    enum play_mode mode;
    struct play_key key; /* of what is recorded */
    struct gpu_graph *graph;
    struct {
        struct play_key key;
        struct gpu_graph *graph;
    } known[PLAY_GRAPHS_MAX];
    uint32_t len;
    uint64_t replayed; /* graphs launched that were recorded before */
};

/* Times between operations, while the backend calibrates. */
struct marks {
    struct gpu_event **event; /* [room] */
    enum part *part;          /* [room] what was done up to that event */
    uint32_t len, room;
};

enum { EVENT_STEPS = 4 }; /* the end of a step is asked for while two more are under way */

struct card_step {
    struct step step;
    void *image;    /* host memory that the card reads */
    void *sampling; /* as is this */
    uint32_t *result;
    float *embedding;
    uint8_t *bad;
    uint32_t kinds;
    uint32_t picked, passes; /* rows of logits, and passes enqueued so far */
    uint32_t embeddings;
    bool sampled; /* the sampling image was made */
    uint64_t number;
    uint64_t enqueued_ns;
};

struct backend {
    const struct gpu_module *module;
    const struct gpu_kernels *run;
    struct gpu *gpu;
    struct gpu_about about;
    uint32_t driver;
    struct card_shape shape;
    struct attend_planner *planner;
    struct matmul_set *products;
    struct matmul *product[PRODUCTS];
    uint8_t *area[AREA_COUNT];
    struct image_places image;
    struct sampling_places sampling;
    struct slots slots;
    struct card_step steps[DEVICE_STEPS];
    struct {
        struct gpu_event *begin, *end;
    } events[EVENT_STEPS];
    uint64_t steps_begun;
    struct play play;
    struct marks *marks; /* NULL: nobody looks */
    bool eager;          /* no graphs, while the backend calibrates */
    struct timeline timeline;
    struct prices prices;
    struct weight *weights;
    struct loader *loader; /* NULL once the weights are loaded */
    char numerics[96];
};

/* cuda.c */
enum err cuda_fault(struct backend *backend, const char *doing); /* ERR_OK, or logged */

/* opening.c */
enum err cuda_open(const struct ops *ops, const struct model *model,
                   const struct device_limits *limits, struct backend **ret);
void cuda_close(struct backend *backend);

/* weights.c: cuda_weight() between the two others */
enum err loader_open(struct backend *backend);
void loader_close(struct backend *backend);
enum err cuda_weight(struct backend *backend, const struct gguf_tensor *const *tensors,
                     uint32_t len, unsigned uses, const struct weight **ret);

/* enqueue.c */
enum area cuda_area(enum act act);
void cuda_start(struct backend *backend, unsigned slot);
void cuda_embed(struct backend *backend, unsigned slot, const struct weight *table);
void cuda_norm(struct backend *backend, unsigned slot, const struct weight *gain, bool first);
void cuda_linear(struct backend *backend, unsigned slot, const struct weight *weight, enum act in,
                 enum act out, uint32_t rows);
void cuda_qkv_post(struct backend *backend, unsigned slot, uint32_t layer);
void cuda_attn(struct backend *backend, unsigned slot, uint32_t layer);
void cuda_glu(struct backend *backend, unsigned slot);
void cuda_pool(struct backend *backend, unsigned slot);
void cuda_gather(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len);
void cuda_sample(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len);
void cuda_end(struct backend *backend, unsigned slot);
void cuda_submit(struct backend *backend);

/* play.c: open() says what to do with the operations that follow, until close(). */
void play_open(struct backend *backend, const struct play_key *key, bool graph);
void play_close(struct backend *backend);

/* calibrate.c */
enum err cuda_calibrate(struct device *device);

#endif
