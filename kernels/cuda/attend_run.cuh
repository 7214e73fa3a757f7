/* attend_run.cuh: what all kernels of attention are given, and where things stand in the image. */
#ifndef MSERVE_KERNELS_CUDA_ATTEND_RUN_CUH
#define MSERVE_KERNELS_CUDA_ATTEND_RUN_CUH

#include "kernels/cuda/attend_image.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

struct attend_run {
    struct attend_args args;
    float scale; /* log2(e) / sqrt(D) */
};

DEVICE const struct attend_header *attend_header_of(const struct attend_args &args)
{
    return static_cast<const struct attend_header *>(args.plan);
}

/* A section of the image. */
template <class T> DEVICE const T *attend_at(const struct attend_header *header, uint32_t offset)
{
    return reinterpret_cast<const T *>(reinterpret_cast<const char *>(header) + offset);
}

/* m and l of the partial results: [slots][H][2]. */
DEVICE float *attend_sums(const struct attend_args &args, const struct attend_header *header)
{
    return args.part + static_cast<size_t>(header->slots) * args.heads * args.head_dim;
}

struct alignas(8) attend_two {
    float first, second;
};

/* Two floats at once. */
DEVICE void attend_put_two(float *to, float first, float second)
{
    *reinterpret_cast<struct attend_two *>(to) = attend_two{first, second};
}

DEVICE struct attend_two attend_get_two(const float *from)
{
    return *reinterpret_cast<const struct attend_two *>(from);
}

#endif
