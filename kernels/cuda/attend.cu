/*
 * attend.cu: attention of a step's rows over paged keys and values, as attend_plan() planned it.
 *
 *     out = softmax(q K^T / sqrt(D)) V, for each row over positions 0 .. its own
 *
 *   attend_items   items of one warp, and items of a block (attend_tile.cuh has the arithmetic)
 *   attend_folds   results of splits to `out`
 *   attend_plain   head sizes that matrix units do not take (attend_plain.cuh)
 *
 * Grids depend on the number of processors alone, and each loops to what the image's header says:
 * so a graph that was recorded for one step serves another. Speed: not measured: no GPU at hand.
 */
#include "kernels/cuda/attend_pages.cuh"
#include "kernels/cuda/attend_plain.cuh"
#include "kernels/cuda/attend_run.cuh"
#include "kernels/cuda/attend_tile.cuh"
#include "kernels/cuda/table.cuh"

/* One item and one KV head, as a thread sees it. */
struct attend_view {
    const struct attend_row *row; /* of the item */
    const uint32_t *block;        /* ids of the sequence's blocks */
    const struct attend_item *item;
    uint32_t kv_head, head; /* head: the query head of packed row 0 */
    uint32_t packed[2];     /* the lane's packed rows */
    uint32_t limit[2];      /* positions that they see; 0: there is no such row */
    uint32_t seen;          /* that the warp's last row sees */
    uint32_t column;        /* the first of the warp's WIDTH */
};

template <class S>
DEVICE struct attend_view attend_look(const struct attend_args &args,
                                      const struct attend_header *header, uint32_t work)
{
    const uint32_t items = S::WALKS ? header->tiles_at : header->singles_at;
    const uint32_t warp = threadIdx.x / 32, base = warp / S::WAYS * ATTEND_WARP_ROWS;
    struct attend_view view;
    uint32_t len;

    view.item = attend_at<struct attend_item>(header, items) + work / args.kv_heads;
    view.row = attend_at<struct attend_row>(header, header->rows_at) + view.item->first;
    view.block = attend_at<uint32_t>(header, header->blocks_at) + view.row[0].blocks;
    view.kv_head = work % args.kv_heads;
    view.head = view.kv_head * (args.heads / args.kv_heads) + view.item->head;
    view.column = warp % S::WAYS * S::WIDTH;
    len = view.item->rows * view.item->heads;
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        view.packed[i] = base + threadIdx.x % 32 / 4 + 8 * i;
        view.limit[i] =
            view.packed[i] < len ? view.row[view.packed[i] / view.item->heads].position + 1 : 0;
    }
    view.seen = 0;
    if (base < len) {
        uint32_t last = base + ATTEND_WARP_ROWS < len ? base + ATTEND_WARP_ROWS : len;

        view.seen = view.row[(last - 1) / view.item->heads].position + 1;
    }
    return view;
}

/* The lane's finished row i to `out`, or to its place among the partial results. */
template <class S>
DEVICE void attend_store_row(const struct attend_args &args, const struct attend_header *header,
                             const struct attend_view &view, const uint32_t i,
                             const struct attend_state<S::WIDTH> &state)
{
    const struct attend_row &row = view.row[view.packed[i] / view.item->heads];
    const uint32_t head = view.head + view.packed[i] % view.item->heads;
    const uint32_t column = view.column + threadIdx.x % 4 * 2;

    if (row.part == ATTEND_NO_PART) {
        float one_over_sum = 1.0f / state.sum[i];
        uint16_t *out =
            args.out + (static_cast<size_t>(row.row) * args.heads + head) * S::DIMS + column;

        UNROLL
        for (uint32_t c = 0; c < S::WIDTH / 8; c++)
            *reinterpret_cast<uint32_t *>(out + c * 8) =
                bf16_pair(attend_done(state.out[c][2 * i], one_over_sum),
                          attend_done(state.out[c][2 * i + 1], one_over_sum));
    } else {
        size_t place = static_cast<size_t>(row.part + view.item->from) * args.heads + head;
        float *part = args.part + place * S::DIMS + column;
        float *sums = attend_sums(args, header) + place * 2;

        UNROLL
        for (uint32_t c = 0; c < S::WIDTH / 8; c++)
            attend_put_two(part + c * 8, state.out[c][2 * i], state.out[c][2 * i + 1]);
        if (column == 0)
            attend_put_two(sums, state.most[i], state.sum[i]);
    }
}

template <class S>
DEVICE void attend_store(const struct attend_args &args, const struct attend_header *header,
                         const struct attend_view &view, const struct attend_state<S::WIDTH> &state)
{
    UNROLL
    for (uint32_t i = 0; i < 2; i++)
        if (view.limit[i] != 0)
            attend_store_row<S>(args, header, view, i, state);
}

/* One page, as far as the warp's rows see it. */
template <class S>
DEVICE void attend_page(struct attend_state<S::WIDTH> &state, const uint16_t *shared,
                        const struct attend_view &view, uint32_t page, float scale)
{
    const uint16_t *query = shared + threadIdx.x / 32 / S::WAYS * ATTEND_WARP_ROWS * S::LINE;
    const uint16_t *key = shared + S::PAGES + (S::FP8 ? 0 : page % 2 * 2 * S::PAGE);
    float score[4][4];

    if (page * ATTEND_PAGE >= view.seen)
        return;
    attend_score<S::DIMS>(score, query, key, S::LINE);
    attend_weigh(state, score, page * ATTEND_PAGE, view.limit, scale);
    attend_values(state, score, key + S::PAGE + view.column, S::LINE);
}

/*
 * A piece of work is an item and a KV head: queries [rows * heads][D] against the pages of splits
 * from .. to - 1, K and V bf16 or fp8 [32][D] each. Moves 2 * 32 * D numbers a page, and D + 2
 * floats a packed row where there are partial results. While a page is worked on, the next one is
 * on its way; one barrier a page (two for fp8) stands between what is copied and what is read.
 */
template <class S> KERNEL(S::THREADS) void attend_items(struct attend_run run)
{
    SHARED(uint16_t, shared);
    const struct attend_args &args = run.args;
    const struct attend_header *header = attend_header_of(args);
    const uint32_t pieces = (S::WALKS ? header->tiles : header->singles) * args.kv_heads;

    for (uint32_t work = blockIdx.x; work < pieces; work += gridDim.x) {
        const struct attend_view view = attend_look<S>(args, header, work);
        const uint32_t pages = (view.item->end + ATTEND_PAGE - 1) / ATTEND_PAGE;
        uint32_t page = view.item->from * ATTEND_SPLIT_PAGES;
        struct attend_state<S::WIDTH> split, all;

        attend_sync<S>(); /* nobody reads any more what the piece before left */
        attend_queries<S>(shared, args, view.row, *view.item, view.head);
        attend_fetch<S>(shared, args, view.block, view.kv_head, page, view.item->end);
        attend_clear(split);
        attend_clear(all);
        for (; page < pages; page++) {
            copies_wait<0>();
            attend_sync<S>();
            if (S::FP8) {
                attend_widen<S>(shared);
                attend_sync<S>();
            }
            if (page + 1 < pages)
                attend_fetch<S>(shared, args, view.block, view.kv_head, page + 1, view.item->end);
            attend_page<S>(split, shared, view, page, run.scale);
            if (S::WALKS &&
                (page % ATTEND_SPLIT_PAGES == ATTEND_SPLIT_PAGES - 1 || page + 1 == pages)) {
                attend_finish(split);
                attend_join(all, split);
                attend_clear(split);
            }
        }
        if (!S::WALKS)
            attend_finish(split);
        attend_store<S>(args, header, view, S::WALKS ? all : split);
    }
}

/*
 * A warp folds one query head of one row: part [splits][D] and [splits][2] to out [D]. Moves
 * (D + 2) * 4 bytes a split. D = 32 N.
 */
template <uint32_t N> KERNEL(128) void attend_folds(struct attend_run run)
{
    const struct attend_args &args = run.args;
    const struct attend_header *header = attend_header_of(args);
    const uint32_t pieces = header->folds * args.heads, lane = threadIdx.x % 32;
    const float *sums = attend_sums(args, header);

    for (uint32_t work = blockIdx.x * 4 + threadIdx.x / 32; work < pieces; work += gridDim.x * 4) {
        const struct attend_fold &fold =
            attend_at<struct attend_fold>(header, header->folds_at)[work / args.heads];
        const uint32_t head = work % args.heads;
        uint16_t *to = args.out + (static_cast<size_t>(fold.row) * args.heads + head) * N * 32;
        float most = -INFINITY, sum = 0.0f, out[N];

        UNROLL
        for (uint32_t i = 0; i < N; i++)
            out[i] = 0.0f;
        for (uint32_t split = 0; split < fold.splits; split++) {
            size_t place = static_cast<size_t>(fold.part + split) * args.heads + head;
            struct attend_two fresh = attend_get_two(sums + place * 2);
            struct attend_scale scale = attend_meet(most, fresh.first);

            most = scale.most;
            sum = attend_add(scale, sum, fresh.second);
            UNROLL
            for (uint32_t i = 0; i < N; i++)
                out[i] = attend_add(scale, out[i], args.part[(place * N + i) * 32 + lane]);
        }
        UNROLL
        for (uint32_t i = 0; i < N; i++)
            to[i * 32 + lane] = bf16_of(attend_done(out[i], 1.0f / sum));
    }
}

/* Blocks that stay on a processor until the work is done, by what shared memory lets in. */
template <class S> static void launch_items(struct gpu *gpu, const struct attend_run &run)
{
    const uint32_t fit = (220u << 10) / S::BYTES, most = S::WALKS ? 3 : 16;

    LAUNCH(attend_items<S>, S::THREADS, gpu, run.args.processors * (fit < most ? fit : most),
           S::BYTES, run);
}

template <uint32_t D, enum number T>
static void launch_kinds(struct gpu *gpu, const struct attend_run &run)
{
    if ((run.args.kinds & ATTEND_TILES) != 0)
        launch_items<attend_shape_of<D, 4, T>>(gpu, run);
    if ((run.args.kinds & ATTEND_SINGLE) != 0)
        launch_items<attend_shape_of<D, 1, T>>(gpu, run);
    if ((run.args.kinds & ATTEND_FOLD) != 0)
        LAUNCH(attend_folds<D / 32>, 128, gpu, run.args.processors * 8, 0, run);
}

template <enum number T> static void launch_size(struct gpu *gpu, const struct attend_run &run)
{
    const uint32_t dims = run.args.head_dim, plain = run.args.processors * 16;

    switch (dims) {
    case 32:
        launch_kinds<32, T>(gpu, run);
        break;
    case 64:
        launch_kinds<64, T>(gpu, run);
        break;
    case 96:
        launch_kinds<96, T>(gpu, run);
        break;
    case 128:
        launch_kinds<128, T>(gpu, run);
        break;
    case 256:
        launch_kinds<256, T>(gpu, run);
        break;
    default:
        LAUNCH(attend_plain<T == NUMBER_FP8>, 32, gpu, plain, attend_plain_bytes(dims), run);
    }
}

void launch_attend(struct gpu *gpu, const struct attend_args *args)
{
    const double log2_e = 1.4426950408889634;
    struct attend_run run = {*args, static_cast<float>(log2_e / sqrt(args->head_dim))};

    if (args->kv.type == NUMBER_FP8)
        launch_size<NUMBER_FP8>(gpu, run);
    else
        launch_size<NUMBER_BF16>(gpu, run);
}
