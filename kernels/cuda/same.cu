/*
 * same.cu: whether rows are those that they should be, bit by bit.
 *
 *   differs[i][s] = any(got[i][..] != want[row[i]][..]) in the s-th SAME_SEGMENT bytes of the row
 *
 *   got, want   [rows][row_bytes], in numbers of 16 bits
 *   row         uint32_t [rows]; SAME_ANY: the row may be anything
 *   differs     uint32_t [rows][segments]
 *
 * One thread a segment. Bytes: both rows once; neighbours in a warp read lines of their own, which
 * costs little for what runs while a worker starts only. Speed: not measured: no GPU at hand.
 */
#include "kernels/cuda/simt.cuh"
#include "kernels/cuda/table.cuh"

enum { SAME_THREADS = 64 };

KERNEL(SAME_THREADS) void same(struct same_args args)
{
    const size_t len = args.row_bytes / 2, step = SAME_SEGMENT / 2;
    const uint32_t segments = static_cast<uint32_t>((len + step - 1) / step);
    const uint32_t at = blockIdx.x * SAME_THREADS + threadIdx.x;
    const uint32_t i = at / segments;
    uint32_t differs = 0;

    if (i >= args.rows)
        return;
    if (args.row[i] != SAME_ANY) {
        const uint16_t *got = args.got + i * len, *want = args.want + args.row[i] * len;
        const size_t begin = at % segments * step;
        const size_t end = begin + step < len ? begin + step : len;

        for (size_t k = begin; k < end; k++)
            differs |= static_cast<uint32_t>(got[k] ^ want[k]);
    }
    args.differs[at] = differs != 0;
}

void launch_same(struct gpu *gpu, const struct same_args *args)
{
    size_t segments = (args->row_bytes + SAME_SEGMENT - 1) / SAME_SEGMENT;
    size_t threads = args->rows * segments;

    LAUNCH(same, SAME_THREADS, gpu,
           static_cast<uint32_t>((threads + SAME_THREADS - 1) / SAME_THREADS), 0, *args);
}
