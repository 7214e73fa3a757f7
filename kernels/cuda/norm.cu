/* norm.cu: add and RMSNorm in one pass over the residual stream, ready for the next product. */
#include "kernels/cuda/prepare.cuh"
#include "kernels/cuda/table.cuh"

#include <math.h>

/*
 * x = stream + delta; out = gain x / sqrt(mean(x^2) + eps)
 *
 *   stream f32 [rows][E], read, and written where there is a delta
 *   delta  bf16 [rows][E] or NULL, gain f32 [E], out prepared [rows][E]
 *
 * A block does a row: it is read once and stays in registers between the sum and the product (up to
 * 16,384 numbers; wider rows are read again). The sum of squares is in float: a thread's chunks are
 * added up in order, lanes as a tree, warps in order. Its relative error is of the order of 2^-24
 * and the same for all numbers of the row: the NMSE before rounding is of the order of 1e-14.
 *
 * Bytes moved: 12 a number with a delta and bf16 out (4 + 2 read, 4 + 2 written), 11 with fp8 or
 * int8; 6 or 5 without a delta. Speed: not measured: no GPU at hand.
 */
template <uint32_t THREADS, uint32_t HELD> KERNEL(THREADS) void norm_rows(struct norm_args args)
{
    SHARED(double, slot);
    const uint32_t width = args.width;
    const bool wide = rows_are_wide(width, (uintptr_t)args.stream | (uintptr_t)args.delta |
                                               (uintptr_t)args.gain | (uintptr_t)args.out.value);
    struct meeting meeting = {slot, 0};

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x) {
        const size_t start = (size_t)row * width;
        struct chunk held[HELD > 0 ? HELD : 1];
        float squares = 0.0f;
        float scale;

        each_chunk<THREADS, HELD>(width, wide, [&](const struct span &span, uint32_t i) {
            struct chunk x = get_floats(args.stream + start, span);

            if (args.delta != NULL) {
                struct chunk delta = get_bf16(args.delta + start, span);

                UNROLL
                for (uint32_t k = 0; k < CHUNK; k++)
                    x.at[k] += delta.at[k];
                put_floats(args.stream + start, span, x);
            }
            UNROLL
            for (uint32_t k = 0; k < CHUNK; k++)
                squares = fmaf(x.at[k], x.at[k], squares);
            if (HELD > 0)
                held[i] = x;
        });
        scale = norm_scale(block_sum<THREADS>(&meeting, squares), width, args.eps);

        const auto make = [&](const struct span &span, uint32_t i, bool) {
            struct chunk x = HELD > 0 ? held[i] : get_floats(args.stream + start, span);
            struct chunk gain = get_floats(args.gain, span);

            UNROLL
            for (uint32_t k = 0; k < CHUNK; k++)
                x.at[k] = x.at[k] * scale * gain.at[k];
            return x;
        };

        prepare_row<THREADS, HELD>(&meeting, args.out, row, width, wide, make);
    }
}

void launch_norm(struct gpu *gpu, const struct norm_args *args)
{
    LAUNCH_ROWS(norm_rows, gpu, args->width, args->rows.most, *args);
}
