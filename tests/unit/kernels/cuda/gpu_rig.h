/*
 * gpu_rig.h: a gpu to test kernels on. It is of the module that $MSERVE_GPU_MODULE names, without
 * that of the build's emulation, so the same test programs run on a real card. What goes wrong ends
 * the test.
 *
 *   for (uint32_t i = 0; rig_schedule(i) != NULL; i++) {
 *       struct rig *rig = rig_open_as(rig_schedule(i));
 *       float *in = rig_put(rig, numbers, sizeof(numbers)), *out = rig_room(rig, bytes);
 *       rig->kernels->norm(rig->gpu, &(struct norm_args){.rows = rig_extent(rig, 8, 5), …});
 *       rig_get(rig, got, out, bytes);
 *       rig_close(rig);
 *   }
 */
#ifndef MSERVE_TESTS_GPU_RIG_H
#define MSERVE_TESTS_GPU_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/launch.h"

struct rig {
    const struct gpu_module *module;
    const struct gpu_kernels *kernels;
    struct gpu *gpu;
    struct gpu_about about;
    struct gpu_event *event;
};

struct rig *rig_open(void);
void rig_close(struct rig *rig); /* all memory of it goes too; NULL is allowed */

/* The same with these settings in MSERVE_EMU, which a real card does not look at. */
struct rig *rig_open_as(const char *emu);
struct rig *rig_open_module(const struct gpu_module *module);

/* Settings under which a kernel must give the same bits, NULL after the last: all orders of
 * threads, asynchronous copies early and late. A real card has one. */
const char *rig_schedule(uint32_t index);

/* Device memory: a copy of the host's, or filled with 0xff (NaN). */
void *rig_put(struct rig *rig, const void *from, size_t bytes);
void *rig_room(struct rig *rig, size_t bytes);
void rig_get(struct rig *rig, void *to, const void *device, size_t bytes); /* waits */

struct extent rig_extent(struct rig *rig, uint32_t most, uint32_t len);

/* Until all that was enqueued has run, without a fault. */
void rig_wait(struct rig *rig);

/* bf16: the nearest, ties to even; and back. */
uint16_t bf16(float value);
float bf16_float(uint16_t value);

/* Even numbers from -1 to 1; a normal distribution is nobody's need here. */
float rig_uniform(uint64_t *seed);

/* Mean of squared differences over mean of squares of `want`; NaN or infinity anywhere:
 * infinity. */
double rig_nmse(const double *want, const float *got, size_t count);

#endif
