/* quantise.cu: into fp8 and int8 rows before a product, out of int32 rows after one. */
#include "kernels/cuda/prepare.cuh"
#include "kernels/cuda/table.cuh"

constexpr uint32_t RESCALE_THREADS = 256;

/*
 * out = in / scale, scale = max |in| / (448 or 127)
 *
 *   in bf16 [rows][width], out prepared [rows][width], fp8 or int8
 *
 * A block does a row, which stays in registers between the maximum and the division (up to 16,384
 * numbers; wider rows are read again). Bytes moved: 3 a number. Speed: not measured: no GPU at
 * hand.
 */
template <uint32_t THREADS, uint32_t HELD>
KERNEL(THREADS)
void quantise_rows(struct quantise_args args)
{
    SHARED(double, slot);
    const uint32_t width = args.width;
    const bool wide = rows_are_wide(width, (uintptr_t)args.in | (uintptr_t)args.out.value);
    struct meeting meeting = {slot, 0};

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x) {
        const uint16_t *in = args.in + (size_t)row * width;
        struct chunk held[HELD > 0 ? HELD : 1];
        const auto make = [&](const struct span &span, uint32_t i, bool again) {
            if (HELD == 0 || !again)
                held[i] = get_bf16(in, span);
            return held[i];
        };

        prepare_row<THREADS, HELD>(&meeting, args.out, row, width, wide, make);
    }
}

/*
 * out = in * row_scale[row] * column_scale[column], from left to right in float
 *
 *   in int32 [rows][width], row_scale f32 [rows], column_scale f32 [width], out bf16 [rows][width]
 *
 * A block does a row. Bytes moved: 6 a number; the column scales stay in the caches. Speed: not
 * measured: no GPU at hand.
 */
KERNEL(RESCALE_THREADS) void rescale_rows(struct rescale_args args)
{
    const uint32_t width = args.width;
    const bool wide = rows_are_wide(width, (uintptr_t)args.in | (uintptr_t)args.column_scale |
                                               (uintptr_t)args.out);

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x) {
        const size_t start = (size_t)row * width;
        const float row_scale = args.row_scale[row];

        each_chunk<RESCALE_THREADS, 0>(width, wide, [&](const struct span &span, uint32_t) {
            struct words sum = get_words(args.in + start, span);
            struct chunk x = get_floats(args.column_scale, span);

            UNROLL
            for (uint32_t i = 0; i < CHUNK; i++)
                x.at[i] = (float)(int32_t)sum.at[i] * row_scale * x.at[i];
            put_bf16(args.out + start, span, x);
        });
    }
}

void launch_quantise(struct gpu *gpu, const struct quantise_args *args)
{
    LAUNCH_ROWS(quantise_rows, gpu, args->width, args->rows.most, *args);
}

void launch_rescale(struct gpu *gpu, const struct rescale_args *args)
{
    LAUNCH(rescale_rows, RESCALE_THREADS, gpu, rows_grid(args->rows.most), 0, *args);
}
