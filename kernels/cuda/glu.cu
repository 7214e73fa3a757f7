/* glu.cu: the gate of the feed-forward part, ready for the next product. */
#include "kernels/cuda/prepare.cuh"
#include "kernels/cuda/table.cuh"
#include "kernels/maths.h"

/*
 * silu(x) = x / (1 + e^-x)
 * gelu(x) = x / 2 (1 + tanh(z)) = x / (1 + e^-2z), z = sqrt(2 / pi) (x + 0.044715 x^3)
 * All in float, as `ref` has it. NaN and infinity of x stay: the numerator is x itself.
 */
DEVICE float gated(float x, float up, enum glu_kind kind)
{
    float power = x;

    if (kind == GLU_GELU)
        power = 1.5957691216057308f * (x + 0.044715f * x * x * x);
    return x / (1.0f + maths_exp32(-power)) * up;
}

DEVICE struct chunk get_gated(const uint16_t *pair, uint32_t width, const struct span &span,
                              enum glu_kind kind)
{
    struct chunk x = get_bf16(pair, span);
    struct chunk up = get_bf16(pair + width, span);

    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        x.at[i] = gated(x.at[i], up.at[i], kind);
    return x;
}

/*
 * out[i] = act(pair[i]) pair[width + i]
 *
 *   pair bf16 [rows][2 F], out prepared [rows][F]
 *
 * A block does a row; for fp8 and int8 the results stay in registers between the maximum and the
 * division (up to 16,384; wider rows are made again). Bytes moved: 6 a number of out with bf16, 5
 * with fp8 or int8. Speed: not measured: no GPU at hand.
 */
template <uint32_t THREADS, uint32_t HELD> KERNEL(THREADS) void glu_rows(struct glu_args args)
{
    SHARED(double, slot);
    const uint32_t width = args.width;
    const bool wide = rows_are_wide(width, (uintptr_t)args.pair | (uintptr_t)args.out.value);
    struct meeting meeting = {slot, 0};

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x) {
        const uint16_t *pair = args.pair + (size_t)row * 2 * width;
        struct chunk held[HELD > 0 ? HELD : 1];
        const auto make = [&](const struct span &span, uint32_t i, bool again) {
            if (HELD == 0 || !again)
                held[i] = get_gated(pair, width, span, args.kind);
            return held[i];
        };

        prepare_row<THREADS, HELD>(&meeting, args.out, row, width, wide, make);
    }
}

/* Nothing has to be held where a row's maximum is not asked for. */
void launch_glu(struct gpu *gpu, const struct glu_args *args)
{
    if (args->out.type == NUMBER_BF16)
        LAUNCH((glu_rows<256, 0>), 256, gpu, rows_grid(args->rows.most), meeting_bytes(256), *args);
    else
        LAUNCH_ROWS(glu_rows, gpu, args->width, args->rows.most, *args);
}
