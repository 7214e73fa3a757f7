/* kernels.cu: the table of launch.h; NULL is a kernel that has not been written. */
#include "kernels/cuda/table.cuh"

const struct gpu_kernels gpu_kernels = {
    /* angles */ launch_angles,
    /* embed */ launch_embed,
    /* norm */ launch_norm,
    /* quantise */ launch_quantise,
    /* rescale */ launch_rescale,
    /* rotate */ launch_rotate,
    /* attend */ launch_attend,
    /* glu */ launch_glu,
    /* gather */ launch_gather,
    /* pool */ launch_pool,
    /* embedding */ launch_embedding,
    /* sample */ launch_sample,
    /* product */ launch_product,
    /* same */ launch_same,
    /* words */ launch_words,
};
