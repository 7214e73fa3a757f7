/*
 * sim.h: the simulated device. A virtual clock that only steps move, and tokens from a hash of all
 * that came before them, so that scheduling, costs and the whole chain around the engine can be
 * tested and measured without a model.
 *
 * CLOCK It starts at 0, opening takes load_ns, and a step takes
 *     fixed_ns + rows * row_ns + (kv * kv_ns + chunk_kv * chunk_kv_ns) / 1024 + wanted * head_ns
 * where kv is the number of KV tokens that the attention of decodes touches, chunk_kv of all other
 * rows: a row at position p touches p + 1. A step begins where the one before ended. With pace > 0 a step is done when that many
 * times its length has passed on the wall, counted from when the device was free for it.
 *
 * TOKENS Each position's KV slot holds hash(position - 1's hash, token, position). What is sampled
 * after a position follows from its hash and, unless greedy, from seed and choice: a wrong
 * block table, a wrong position or a row out of order changes the output. Sampled bytes are
 * letters and blanks, or </s> with a chance of eos_per_million. Log-probabilities, where wanted, are
 * numbers in (-4, 0] out of the same hash.
 */
#ifndef MSERVE_KERNELS_SIM_H
#define MSERVE_KERNELS_SIM_H

#include "kernels/device.h"

enum { SIM_EMBEDDING_LEN = 32, SIM_CONTEXT_MAX = 4096, SIM_VOCAB = 258, SIM_END = 257 };

extern const struct device_ops sim_device;

#endif
