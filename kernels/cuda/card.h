/*
 * card.h: the cards of this machine, through the module that has them, and the one that is meant.
 */
#ifndef MSERVE_KERNELS_CUDA_CARD_H
#define MSERVE_KERNELS_CUDA_CARD_H

#include "config/errors.h"
#include "kernels/cuda/gpu.h"

struct card {
    const struct gpu_module *module;
    uint32_t index; /* for module->open() */
    uint32_t driver;
    struct gpu_about about;
};

/*
 * `name`: of the module, "cuda" or "cuda-emu". True when it can be opened, has a card, and, for
 * "cuda", libcublasLt is there; if not, *ret_why says what is missing, for as long as the process
 * lives.
 */
bool card_usable(const char *name, const char **ret_why);

/*
 * The card that `gpu` means: a UUID, the beginning of one, an index; NULL or "" is the first.
 * ERR_SETTINGS with the list of cards where none or several fit; ERR_DEVICE where there is no card.
 */
enum err card_find(const char *name, const char *gpu, struct card *ret);

#endif
