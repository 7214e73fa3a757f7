/*
 * linear.c: out[m][n] = sum over k of weight[n][k] in[m][k], k ascending, for every m alike.
 *
 * Lanes run across outputs n, never across k, so the order of the sum is the same in a tile of
 * sixteen outputs as in plain C. GROUP rows share each weight that is loaded.
 */
#include "kernels/ref/ref.h"

#include <string.h>

enum { GROUP = 2, PANEL_ROWS = 32, FOURS = LANES / 4 };

struct job {
    const struct weight *weight;
    const float *in;
    float *out;
    uint32_t rows;
    uint32_t tiles;
};

/* One tile of outputs for `rows` (a constant) rows. */
static inline __attribute__((always_inline)) void multiply(const float *restrict weight,
                                                           const float *restrict in,
                                                           uint32_t columns, const uint32_t rows,
                                                           float *restrict out)
{
    four sum[GROUP][FOURS] = {{{0}}};

    for (uint32_t k = 0; k < columns; k++, weight += LANES) {
        four w[FOURS];

        for (int i = 0; i < FOURS; i++)
            w[i] = *(const four *)(weight + 4 * i);
        for (uint32_t m = 0; m < rows; m++)
            for (int i = 0; i < FOURS; i++)
                sum[m][i] += w[i] * in[(size_t)m * columns + k];
    }
    memcpy(out, sum, rows * sizeof(sum[0]));
}

static void multiply_tile(const struct job *job, uint32_t tile, uint32_t row, uint32_t rows)
{
    uint32_t columns = job->weight->columns;
    uint32_t outputs = job->weight->rows;
    const float *weight = job->weight->value + (size_t)tile * LANES * columns;
    const float *in = job->in + (size_t)row * columns;
    uint32_t lanes = outputs - tile * LANES < LANES ? outputs - tile * LANES : LANES;
    float out[GROUP][LANES];

    if (rows == GROUP)
        multiply(weight, in, columns, GROUP, out[0]);
    else
        multiply(weight, in, columns, 1, out[0]);
    for (uint32_t m = 0; m < rows; m++)
        memcpy(job->out + (size_t)(row + m) * outputs + (size_t)tile * LANES, out[m],
               lanes * sizeof(float));
}

/* An item is one tile for a panel of rows; the tiles of a panel follow each other. */
static void multiply_items(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;

    (void)thread;
    for (uint32_t item = begin; item < end; item++) {
        uint32_t first = item / job->tiles * PANEL_ROWS;
        uint32_t last = job->rows - first < PANEL_ROWS ? job->rows : first + PANEL_ROWS;

        for (uint32_t row = first; row < last; row += GROUP)
            multiply_tile(job, item % job->tiles, row, last - row < GROUP ? 1 : GROUP);
    }
}

void ref_linear(struct backend *backend, const struct weight *weight, enum act in, enum act out,
                uint32_t rows)
{
    struct job job = {weight, backend->act[in], backend->act[out], rows,
                      (weight->rows + LANES - 1) / LANES};
    uint32_t panels = (rows + PANEL_ROWS - 1) / PANEL_ROWS;
    uint32_t panel = rows < PANEL_ROWS ? rows : PANEL_ROWS;

    team_run(backend->team, panels * job.tiles, (uint64_t)panel * LANES * weight->columns / 4,
             multiply_items, &job);
}
