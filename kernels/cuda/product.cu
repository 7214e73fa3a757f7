/*
 * product.cu: our own product of bf16, for cards and shapes where cuBLASLt cannot be had or has
 * nothing that keeps a row's bits (matmul.h).
 *
 *   out[m][n] = sum over k of a[m][k] b[n][k]
 *
 *   a     bf16 [M][K]
 *   b     bf16 [N][K]
 *   out   bf16 or float [M][N]
 *
 * A block makes 64 x 64 of out with four warps, each 32 x 32. Steps of 32 of K go by in ascending
 * order, the next one on its way into shared memory while one is multiplied; each warp adds them up
 * in its accumulators, 16 at a time. What lies past M, N or K is zero, and every block does the same
 * steps, so an output's bits depend on its row of a, its row of b and K alone.
 *
 * Bytes: a is read ceil(N / 64) times, b ceil(M / 64) times, mostly from the L2 cache; blocks that
 * share rows of b stand side by side. Speed: not measured: no GPU at hand.
 */
#include "kernels/cuda/simt.cuh"
#include "kernels/cuda/table.cuh"

enum {
    PRODUCT_THREADS = 128,
    PRODUCT_TILE = 64,  /* rows of a, and of b, of a block */
    PRODUCT_STEP = 32,  /* of K */
    PRODUCT_PITCH = 40, /* numbers from row to row in shared memory: eight rows, no common bank */
    PRODUCT_CHUNK = 8,  /* numbers of one copy */
};

/* One step of both matrices in shared memory; there are two, taken in turn. */
struct product_stage {
    uint16_t a[PRODUCT_TILE * PRODUCT_PITCH];
    uint16_t b[PRODUCT_TILE * PRODUCT_PITCH];
};

/* Begins to copy numbers k0 .. k0 + 31 of 64 rows from row0 on. `rows` and `inputs` bound them. */
DEVICE void product_fetch(uint16_t *to, const uint16_t *from, uint32_t row0, uint32_t rows,
                          uint32_t k0, uint32_t inputs)
{
    const uint32_t chunks = PRODUCT_STEP / PRODUCT_CHUNK;

    UNROLL
    for (uint32_t i = 0; i < PRODUCT_TILE * chunks / PRODUCT_THREADS; i++) {
        uint32_t chunk = i * PRODUCT_THREADS + threadIdx.x;
        uint32_t row = chunk / chunks, k = chunk % chunks * PRODUCT_CHUNK;
        bool ok = row0 + row < rows && k0 + k < inputs;
        const uint16_t *at = from + (ok ? static_cast<size_t>(row0 + row) * inputs + k0 + k : 0);

        copy_16(to + row * PRODUCT_PITCH + k, at, ok);
    }
}

/* sum += the warp's 32 x 32 of one stage, 16 of K after 16. */
DEVICE void product_step(float sum[2][4][4], const struct product_stage *stage, uint32_t row0,
                         uint32_t column0)
{
    const uint32_t lane = threadIdx.x % 32;
    /* Which row of which 8 x 8 tile this lane names: a's tiles go down first, b's along K. */
    const uint16_t *a = stage->a + (row0 + lane % 16) * PRODUCT_PITCH + lane / 16 * 8;
    const uint16_t *b =
        stage->b + (column0 + lane / 16 * 8 + lane % 8) * PRODUCT_PITCH + lane / 8 % 2 * 8;

    UNROLL
    for (uint32_t k = 0; k < PRODUCT_STEP; k += 16) {
        uint32_t left[2][4], right[2][4];

        UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            tile_load_4(left[i], a + i * 16 * PRODUCT_PITCH + k);
            tile_load_4(right[i], b + i * 16 * PRODUCT_PITCH + k);
        }
        UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            UNROLL
            for (uint32_t j = 0; j < 4; j++)
                tile_multiply(sum[i][j], left[i], right[j / 2] + j % 2 * 2);
        }
    }
}

DEVICE void product_write(const struct product_args *args, uint32_t row, uint32_t column,
                          float value)
{
    size_t at = static_cast<size_t>(row) * args->outputs + column;

    if (row >= args->rows || column >= args->outputs)
        return;
    if (args->type == NUMBER_F32)
        static_cast<float *>(args->out)[at] = value;
    else
        static_cast<uint16_t *>(args->out)[at] = bf16_of(value);
}

KERNEL(PRODUCT_THREADS) void product(struct product_args args)
{
    SHARED(struct product_stage, stage);
    const uint32_t tiles = (args.rows + PRODUCT_TILE - 1) / PRODUCT_TILE;
    const uint32_t row0 = blockIdx.x % tiles * PRODUCT_TILE;
    const uint32_t column0 = blockIdx.x / tiles * PRODUCT_TILE;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    const uint32_t steps = (args.inputs + PRODUCT_STEP - 1) / PRODUCT_STEP;
    float sum[2][4][4] = {};

    product_fetch(stage[0].a, args.a, row0, args.rows, 0, args.inputs);
    product_fetch(stage[0].b, args.b, column0, args.outputs, 0, args.inputs);
    copies_commit();
    for (uint32_t step = 0; step < steps; step++) {
        struct product_stage *next = stage + (step + 1) % 2;

        if (step + 1 < steps) {
            product_fetch(next->a, args.a, row0, args.rows, (step + 1) * PRODUCT_STEP, args.inputs);
            product_fetch(next->b, args.b, column0, args.outputs, (step + 1) * PRODUCT_STEP,
                          args.inputs);
        }
        copies_commit(); /* empty after the last: one group is open always */
        copies_wait<1>();
        block_sync();
        product_step(sum, stage + step % 2, warp_row, warp_column);
        block_sync(); /* before the stage is written again */
    }
    copies_wait<0>();

    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            uint32_t row = row0 + warp_row + i * 16 + lane / 4;
            uint32_t column = column0 + warp_column + j * 8 + lane % 4 * 2;

            product_write(&args, row, column, sum[i][j][0]);
            product_write(&args, row, column + 1, sum[i][j][1]);
            product_write(&args, row + 8, column, sum[i][j][2]);
            product_write(&args, row + 8, column + 1, sum[i][j][3]);
        }
    }
}

void launch_product(struct gpu *gpu, const struct product_args *args)
{
    uint32_t tiles = (args->rows + PRODUCT_TILE - 1) / PRODUCT_TILE;
    uint32_t columns = (args->outputs + PRODUCT_TILE - 1) / PRODUCT_TILE;

    LAUNCH(product, PRODUCT_THREADS, gpu, tiles * columns, 2 * sizeof(struct product_stage), *args);
}
