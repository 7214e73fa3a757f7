/*
 * forward.h: a device (kernels/device.h) out of a table of operations (kernels/ops.h): the forward
 * pass that all backends share.
 *
 *     embed
 *     each layer:  norm, linear qkv, qkv_post, attn, linear output,
 *                  norm, linear gate and up, glu, linear down
 *     norm, pool
 *     sample():    gather, linear head, sample; as often as the picked rows ask for
 */
#ifndef MSERVE_KERNELS_MODEL_FORWARD_H
#define MSERVE_KERNELS_MODEL_FORWARD_H

#include "kernels/model/model.h"
#include "kernels/ops.h"

/* What a backend's struct device_ops calls with its table. */
enum err forward_plan(const struct ops *ops, const struct model *model,
                      const struct device_limits *limits, struct engine_plan *ret);
enum err forward_open(const struct device_ops *device, const struct ops *ops,
                      const struct model *model, const struct device_limits *limits,
                      struct device **ret);

/* The rest of a struct device_ops is the same for all. */
void forward_close(struct device *device);
struct slots *forward_slots(struct device *device);
struct step *forward_begin(struct device *device, unsigned slot);
void forward_forward(struct device *device, unsigned slot);
void forward_sample(struct device *device, unsigned slot);
enum err forward_done(struct device *device, unsigned slot, int timeout_ms,
                      struct step_result *ret);
const char *forward_numerics(const struct device *device);

/* The operations' own device, for tests. */
struct backend *forward_backend(struct device *device);

#endif
