/* kernels.cu: the table of launch.h; NULL is a kernel that has not been written. */
#include "kernels/cuda/table.cuh"

const struct gpu_kernels gpu_kernels = {
    launch_angles,  launch_embed,  launch_norm,      launch_quantise,
    launch_rescale, launch_rotate, launch_attend,    launch_glu,
    launch_gather,  launch_pool,   launch_embedding, NULL, /* sample */
    launch_product, launch_same,   launch_words,
};
