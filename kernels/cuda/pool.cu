/* pool.cu: sums of final states in double, and embeddings made of them. */
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/table.cuh"

#include <math.h>

constexpr uint32_t POOL_THREADS = 128, POOL_AHEAD = 8, EMBEDDING_THREADS = 128;

/* Two neighbouring columns; the second may not be there. */
struct columns {
    const uint16_t *in;
    uint32_t width;
    bool both, wide;
};

DEVICE uint32_t columns_at(const struct columns &columns, size_t row)
{
    const uint16_t *at = columns.in + row * columns.width;

    if (columns.wide)
        return *(const uint32_t *)(const void *)at;
    return at[0] | (columns.both ? (uint32_t)at[1] << 16 : 0);
}

/* Rows in order, POOL_AHEAD of them read before the first is added. */
DEVICE void add_rows(const struct columns &columns, uint32_t rows, double *low, double *high)
{
    uint32_t i = 0;

    for (; i + POOL_AHEAD <= rows; i += POOL_AHEAD) {
        uint32_t pair[POOL_AHEAD];

        UNROLL
        for (uint32_t k = 0; k < POOL_AHEAD; k++)
            pair[k] = columns_at(columns, i + k);
        UNROLL
        for (uint32_t k = 0; k < POOL_AHEAD; k++) {
            *low += (double)bf16_low(pair[k]);
            *high += (double)bf16_high(pair[k]);
        }
    }
    for (; i < rows; i++) {
        uint32_t pair = columns_at(columns, i);

        *low += (double)bf16_low(pair);
        *high += (double)bf16_high(pair);
    }
}

/*
 * pool[slot] = (first ? 0 : pool[slot]) + the item's rows, in order: the sum is the same however a
 * prompt is cut
 *
 *   item [items], in bf16 [rows][width], pool f64 [slots][width]
 *
 * A block does 2 POOL_THREADS columns of an item, a thread two of them. Bytes moved: 2 a number of
 * in, 16 a number of a pool. Speed: not measured: no GPU at hand.
 */
KERNEL(POOL_THREADS) void pool_items(struct pool_args args)
{
    const uint32_t width = args.width;
    const uint32_t slices = (width + 2 * POOL_THREADS - 1) / (2 * POOL_THREADS);

    for (uint64_t work = blockIdx.x; work < (uint64_t)*args.items.len * slices; work += gridDim.x) {
        const struct pool_item item = args.item[work / slices];
        const uint32_t column = (uint32_t)(work % slices * POOL_THREADS + threadIdx.x) * 2;
        const struct columns columns = {args.in + (size_t)item.row * width + column, width,
                                        column + 1 < width,
                                        width % 2 == 0 && (uintptr_t)args.in % 4 == 0};
        double *pool = args.pool + (size_t)item.slot * width + column;
        double low = 0.0, high = 0.0;

        if (column >= width)
            continue;
        if (!item.first) {
            low = pool[0];
            high = columns.both ? pool[1] : 0.0;
        }
        add_rows(columns, item.rows, &low, &high);
        pool[0] = low;
        if (columns.both)
            pool[1] = high;
    }
}

/*
 * out[want] = pool[slot] / |pool[slot]|; bad[want] = 1 and zeros where that has no length
 *
 *   item [items], pool f64 [slots][width], out f32 [wanted][width], bad u32 [wanted]
 *
 * A block does an item. Bytes moved: 20 a number, as a pool is read twice. Speed: not measured: no
 * GPU at hand.
 */
KERNEL(EMBEDDING_THREADS) void embedding_items(struct embedding_args args)
{
    SHARED(double, slot);
    struct meeting meeting = {slot, 0};

    for (uint32_t i = blockIdx.x; i < *args.items.len; i += gridDim.x) {
        const struct embedding_item item = args.item[i];
        const double *pool = args.pool + (size_t)item.slot * args.width;
        double squares = 0.0;
        double length;
        bool bad;

        for (uint32_t k = threadIdx.x; k < args.width; k += EMBEDDING_THREADS)
            squares += pool[k] * pool[k];
        length = sqrt(block_sum<EMBEDDING_THREADS>(&meeting, squares));
        bad = !(length > 0.0 && length <= 1e300);
        for (uint32_t k = threadIdx.x; k < args.width; k += EMBEDDING_THREADS)
            args.out[(size_t)item.want * args.width + k] = bad ? 0.0f : (float)(pool[k] / length);
        if (threadIdx.x == 0)
            args.bad[item.want] = bad;
    }
}

void launch_pool(struct gpu *gpu, const struct pool_args *args)
{
    const uint32_t slices = (args->width + 2 * POOL_THREADS - 1) / (2 * POOL_THREADS);

    LAUNCH(pool_items, POOL_THREADS, gpu, rows_grid(args->items.most * slices), 0, *args);
}

void launch_embedding(struct gpu *gpu, const struct embedding_args *args)
{
    LAUNCH(embedding_items, EMBEDDING_THREADS, gpu, rows_grid(args->items.most),
           meeting_bytes(EMBEDDING_THREADS), *args);
}
