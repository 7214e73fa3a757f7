/* embed.cu: rows of a table by token, rows of activations by number. */
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/table.cuh"

constexpr uint32_t COPY_THREADS = 256;

/*
 * stream[row] = table[token[row]]; token -1: last[slot[row]]
 *
 *   token i32 [rows], slot u32 [rows], last u32 [slots], table bf16 [V][E], stream f32 [rows][E]
 *
 * A block does a row. Bytes moved: 6 a number. Speed: not measured: no GPU at hand.
 */
KERNEL(COPY_THREADS) void embed_rows(struct embed_args args)
{
    const uint32_t width = args.width;
    const bool wide = rows_are_wide(width, (uintptr_t)args.table | (uintptr_t)args.stream);

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x) {
        const int32_t token = args.token[row];
        const size_t id = token < 0 ? args.last[args.slot[row]] : (uint32_t)token;
        const uint16_t *from = args.table + id * width;
        float *to = args.stream + (size_t)row * width;

        each_chunk<COPY_THREADS, 0>(width, wide, [=](const struct span &span, uint32_t) {
            put_floats(to, span, get_bf16(from, span));
        });
    }
}

/*
 * out[i] = in[row[i]]
 *
 *   row u32 [rows of out], in bf16 [..][width], out bf16 [rows][width]
 *
 * A block does a row of out. Bytes moved: 4 a number. Speed: not measured: no GPU at hand.
 */
KERNEL(COPY_THREADS) void gather_rows(struct gather_args args)
{
    const uint32_t width = args.width;
    const bool wide = rows_are_wide(width, (uintptr_t)args.in | (uintptr_t)args.out);

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x) {
        const uint16_t *from = args.in + (size_t)args.row[row] * width;
        uint16_t *to = args.out + (size_t)row * width;

        each_chunk<COPY_THREADS, 0>(width, wide, [=](const struct span &span, uint32_t) {
            if (span.wide)
                store_16(to + span.at, load_16(from + span.at));
            for (uint32_t i = 0; i < span.len && !span.wide; i++)
                to[span.at + i] = from[span.at + i];
        });
    }
}

void launch_embed(struct gpu *gpu, const struct embed_args *args)
{
    LAUNCH(embed_rows, COPY_THREADS, gpu, rows_grid(args->rows.most), 0, *args);
}

void launch_gather(struct gpu *gpu, const struct gather_args *args)
{
    LAUNCH(gather_rows, COPY_THREADS, gpu, rows_grid(args->rows.most), 0, *args);
}
