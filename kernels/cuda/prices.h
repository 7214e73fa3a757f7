/*
 * prices.h: what a step's time went into, where only the whole is measured. A few steps are timed
 * part by part when the backend opens; from then on a step's time is split in proportion to what
 * its rows, KV tokens and sampled rows cost then.
 */
#ifndef MSERVE_KERNELS_CUDA_PRICES_H
#define MSERVE_KERNELS_CUDA_PRICES_H

#include "kernels/device.h"

enum { PRICE_POINTS_MAX = 4 };

/* Of so many rows: a line through the points, level before the first, in proportion after the last. */
struct price_line {
    uint32_t len;
    uint32_t rows[PRICE_POINTS_MAX]; /* ascending */
    double ns[PRICE_POINTS_MAX];
};

struct prices {
    double fixed_ns;
    struct price_line linear; /* by rows of the step */
    struct price_line head;   /* by rows wanted */
    double decode_kv_ns;      /* each KV token that a decode row touches */
    double chunk_kv_ns;       /* that a row of a chunk does */
};

struct price_work {
    uint32_t rows, wanted;
    uint64_t decode_kv, chunk_kv;
};

/* Replaces the point of the same number of rows; more points than there is room for are dropped. */
void price_line_add(struct price_line *line, uint32_t rows, double ns);
double price_line_at(const struct price_line *line, uint32_t rows);

/* ret_part_ns adds up to total_ns, to the nanosecond. */
void prices_split(const struct prices *prices, const struct price_work *work, uint64_t total_ns,
                  uint64_t ret_part_ns[PART_COUNT]);

/* The work of a step. */
void price_work_of(const struct step *step, struct price_work *ret);

/* The prices of KV tokens in proportion, for struct device: the larger is about 1,000. */
void prices_weights(const struct prices *prices, uint16_t *ret_decode, uint16_t *ret_chunk);

#endif
