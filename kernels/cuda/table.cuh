/* table.cuh: the functions of launch.h, each at the end of its kernel's source; kernels.cu lists
 * them. */
#ifndef MSERVE_KERNELS_CUDA_TABLE_CUH
#define MSERVE_KERNELS_CUDA_TABLE_CUH

#include "kernels/cuda/launch.h"

void launch_angles(struct gpu *gpu, const struct angles_args *args);
void launch_embed(struct gpu *gpu, const struct embed_args *args);
void launch_norm(struct gpu *gpu, const struct norm_args *args);
void launch_quantise(struct gpu *gpu, const struct quantise_args *args);
void launch_rescale(struct gpu *gpu, const struct rescale_args *args);
void launch_rotate(struct gpu *gpu, const struct rotate_args *args);
void launch_attend(struct gpu *gpu, const struct attend_args *args);
void launch_glu(struct gpu *gpu, const struct glu_args *args);
void launch_gather(struct gpu *gpu, const struct gather_args *args);
void launch_pool(struct gpu *gpu, const struct pool_args *args);
void launch_embedding(struct gpu *gpu, const struct embedding_args *args);
void launch_sample(struct gpu *gpu, const struct sample_args *args);
void launch_product(struct gpu *gpu, const struct product_args *args);
void launch_same(struct gpu *gpu, const struct same_args *args);
void launch_words(struct gpu *gpu, const struct words_args *args);

extern const struct gpu_kernels gpu_kernels;

#endif
