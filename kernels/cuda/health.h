/*
 * health.h: whether a card is sick, from what the driver said of it. A decision without a device.
 *
 * Sick is a card whose results or whose next step cannot be relied on: memory errors that ECC could
 * not correct, a row that could not be remapped, a link, a controller or the whole card that no
 * longer answers. A fault of the program's own making (an address, an assertion) is not: it ends the
 * process, and the next one begins on a card that is well.
 */
#ifndef MSERVE_KERNELS_CUDA_HEALTH_H
#define MSERVE_KERNELS_CUDA_HEALTH_H

#include "kernels/cuda/nvml.h"

/* What an Xid says of the card, in words; NULL: nothing that makes it sick. */
const char *health_of_xid(uint32_t xid);

/*
 * True when the card is sick; `why` then says of what. `first` is the reading that the watch began
 * with: errors that were counted before it are not this worker's, and were survived.
 */
bool health_is_sick(const struct nvml_reading *first, const struct nvml_reading *now, char *why,
                    size_t why_size);

#endif
