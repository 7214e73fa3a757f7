/* kernels.cu: the table of launch.h; NULL is a kernel that has not been written. */
#include "kernels/cuda/table.cuh"

const struct gpu_kernels gpu_kernels = {
    NULL, /* angles */
    NULL, /* embed */
    NULL, /* norm */
    NULL, /* quantise */
    NULL, /* rescale */
    NULL, /* rotate */
    NULL, /* attend */
    NULL, /* glu */
    NULL, /* gather */
    NULL, /* pool */
    NULL, /* embedding */
    NULL, /* sample */
    NULL, /* product */
    NULL, /* same */
    launch_words,
};
