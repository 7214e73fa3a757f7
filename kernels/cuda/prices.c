/* prices.c: lines through a few points, and a split that adds up. */
#include "kernels/cuda/prices.h"

#include <string.h>

enum { WEIGHT_MOST = 1000 };

void price_line_add(struct price_line *line, uint32_t rows, double ns)
{
    uint32_t at = 0;

    while (at < line->len && line->rows[at] < rows)
        at++;
    if (at == line->len || line->rows[at] != rows) {
        if (line->len == PRICE_POINTS_MAX)
            return;
        memmove(line->rows + at + 1, line->rows + at, (line->len - at) * sizeof(*line->rows));
        memmove(line->ns + at + 1, line->ns + at, (line->len - at) * sizeof(*line->ns));
        line->len++;
    }
    line->rows[at] = rows;
    line->ns[at] = ns;
}

double price_line_at(const struct price_line *line, uint32_t rows)
{
    const uint32_t last = line->len - 1;
    uint32_t i = 0;

    if (line->len == 0 || rows == 0)
        return 0.0;
    if (rows <= line->rows[0])
        return line->ns[0];
    if (rows >= line->rows[last])
        return line->ns[last] * rows / line->rows[last];
    while (line->rows[i + 1] < rows)
        i++;
    return line->ns[i] + (line->ns[i + 1] - line->ns[i]) * (rows - line->rows[i]) /
                             (line->rows[i + 1] - line->rows[i]);
}

void prices_split(const struct prices *prices, const struct price_work *work, uint64_t total_ns,
                  uint64_t ret_part_ns[PART_COUNT])
{
    double part[PART_COUNT], sum = 0.0;
    uint64_t rest = total_ns;

    part[PART_FIXED] = prices->fixed_ns;
    part[PART_LINEAR] = price_line_at(&prices->linear, work->rows);
    part[PART_ATTENTION] = prices->decode_kv_ns * (double)work->decode_kv +
                           prices->chunk_kv_ns * (double)work->chunk_kv;
    part[PART_HEAD] = price_line_at(&prices->head, work->wanted);
    for (int i = 0; i < PART_COUNT; i++)
        sum += part[i];
    for (int i = PART_COUNT - 1; i > PART_FIXED; i--) {
        uint64_t ns = sum > 0.0 ? (uint64_t)((double)total_ns * (part[i] / sum)) : 0;

        ret_part_ns[i] = ns < rest ? ns : rest;
        rest -= ret_part_ns[i];
    }
    ret_part_ns[PART_FIXED] = rest;
}

void price_work_of(const struct step *step, struct price_work *ret)
{
    *ret = (struct price_work){.rows = step->rows, .wanted = step->wanted};
    for (uint32_t s = 0; s < step->sequences; s++) {
        const uint64_t rows = step->seq_rows[s], ctx = step->seq_ctx[s];
        const uint64_t kv = rows * ctx + rows * (rows + 1) / 2;

        *(s < step->decodes ? &ret->decode_kv : &ret->chunk_kv) += kv;
    }
}

void prices_weights(const struct prices *prices, uint16_t *ret_decode, uint16_t *ret_chunk)
{
    const double decode = prices->decode_kv_ns, chunk = prices->chunk_kv_ns;
    const double most = decode > chunk ? decode : chunk;

    *ret_decode = *ret_chunk = 1;
    if (!(decode > 0.0 && chunk > 0.0))
        return;
    *ret_decode = (uint16_t)(decode / most * WEIGHT_MOST) + 1;
    *ret_chunk = (uint16_t)(chunk / most * WEIGHT_MOST) + 1;
}
