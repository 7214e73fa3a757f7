/*
 * test_attend_plan.c: what the plan of attention says is checked against what has to be done: every
 * row sees each of its positions once, from its own blocks, and nothing past them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/unit/kernels/cuda/attend_case.h"

/* A planned step. */
struct planned {
    const struct attend_case *at;
    uint8_t *image;
    size_t bytes;
    uint32_t kinds;
    const struct attend_header *header;
    const struct attend_row *row;
    const uint32_t *blocks;
    const struct attend_item *single, *tile;
    const struct attend_fold *fold;
    uint32_t ratio, splits;
    uint8_t *seen; /* [rows][ratio][splits] how often */
};

static struct attend_shape shape_of(uint32_t heads, uint32_t kv_heads, uint32_t head_dim)
{
    return (struct attend_shape){
        heads,
        kv_heads,
        head_dim,
        {.rows_max = 2048, .sequences_max = 600, .blocks = 20000, .context_max = 2000},
        true};
}

static struct planned plan_with(struct attend_planner *planner, const struct attend_case *at)
{
    struct planned p = {.at = at};
    size_t most = attend_image_bytes(&at->shape);

    p.image = malloc(most + 16);
    assert_non_null(p.image);
    memset(p.image, 0xee, most + 16);
    p.bytes = attend_plan(planner, &at->step, &at->slots, p.image, &p.kinds);
    assert_true(p.bytes <= most);
    for (size_t i = p.bytes; i < most + 16; i++)
        assert_int_equal(p.image[i], 0xee);
    p.header = (const void *)p.image;
    p.row = (const void *)(p.image + p.header->rows_at);
    p.blocks = (const void *)(p.image + p.header->blocks_at);
    p.single = (const void *)(p.image + p.header->singles_at);
    p.tile = (const void *)(p.image + p.header->tiles_at);
    p.fold = (const void *)(p.image + p.header->folds_at);
    p.ratio = at->shape.heads / at->shape.kv_heads;
    p.splits = (at->shape.limits.context_max + ATTEND_SPLIT - 1) / ATTEND_SPLIT;
    return p;
}

static struct planned plan(const struct attend_case *at)
{
    struct attend_planner *planner = attend_planner_new(&at->shape);
    struct planned p = plan_with(planner, at);

    attend_planner_free(planner);
    return p;
}

static void forget(struct planned *p)
{
    free(p->image);
    free(p->seen);
}

static uint32_t sequence_of(const struct step *step, uint32_t row)
{
    uint32_t s = 0;

    while (step->seq_row[s] + step->seq_rows[s] <= row)
        s++;
    return s;
}

/* One row in one item: its blocks are those that the item reads, its splits are counted. */
static void check_member(struct planned *p, const struct attend_item *item,
                         const struct attend_row *row)
{
    const struct step *step = &p->at->step;
    uint32_t s = sequence_of(step, row->row), own = row->position / ATTEND_SPLIT + 1;
    const uint32_t *want = attend_case_blocks(p->at, s);

    assert_int_equal(row->position, step->seq_ctx[s] + row->row - step->seq_row[s]);
    for (uint32_t page = item->from * ATTEND_SPLIT_PAGES;
         page <= row->position / ATTEND_PAGE && page < item->to * ATTEND_SPLIT_PAGES; page++) {
        assert_int_equal(p->blocks[row->blocks + page], want[page]);
        assert_int_equal(p->blocks[p->row[item->first].blocks + page], want[page]);
    }
    assert_true(item->end > row->position || item->end == item->to * ATTEND_SPLIT);
    assert_true(row->part == ATTEND_NO_PART ? item->from == 0 && item->to >= own
                                            : item->to == item->from + 1);
    for (uint32_t head = item->head; head < item->head + item->heads; head++)
        for (uint32_t split = item->from; split < item->to && split < own; split++)
            p->seen[((size_t)row->row * p->ratio + head) * p->splits + split]++;
}

static void check_items(struct planned *p, const struct attend_item *item, uint32_t len,
                        uint32_t packed)
{
    for (uint32_t i = 0; i < len; i++, item++) {
        const struct attend_row *row = p->row + item->first;
        uint32_t last = 0;

        assert_in_range(item->rows * item->heads, 1, packed);
        assert_true(item->head + item->heads <= p->ratio && item->from < item->to);
        for (uint32_t r = 0; r < item->rows; r++) {
            check_member(p, item, &row[r]);
            /* a warp stops at its last row's position */
            assert_true(row[r].position >= last || row[r].position + 1 >= item->end);
            last = row[r].position;
        }
        for (uint32_t r = 0; last + 1 < item->end && r < item->rows; r++)
            last = row[r].position > last ? row[r].position : last;
        assert_true(last + 1 >= item->end); /* what nobody sees is zero */
    }
}

/* Each row with parts is folded once, from places that are its own. */
static void check_folds(const struct planned *p)
{
    uint8_t *taken = calloc(p->header->slots + 1, 1), *folded = calloc(p->header->rows, 1);

    for (uint32_t i = 0; i < p->header->folds; i++) {
        const struct attend_row *row = &p->row[p->fold[i].row];

        assert_int_equal(folded[row->row]++, 0);
        assert_int_equal(p->fold[i].part, row->part);
        assert_int_equal(p->fold[i].splits, row->position / ATTEND_SPLIT + 1);
        for (uint32_t s = 0; s < p->fold[i].splits; s++) {
            assert_true(row->part + s < p->header->slots);
            assert_int_equal(taken[row->part + s]++, 0);
        }
    }
    for (uint32_t i = 0; i < p->header->rows; i++)
        assert_int_equal(folded[i], p->row[i].part != ATTEND_NO_PART);
    free(taken);
    free(folded);
}

static void check(struct planned *p)
{
    const struct attend_header *header = p->header;

    assert_int_equal(header->rows, p->at->step.rows);
    p->seen = calloc((size_t)header->rows * p->ratio * p->splits, 1);
    assert_non_null(p->seen);
    for (uint32_t i = 0; i < header->rows; i++)
        assert_int_equal(p->row[i].row, i);
    check_items(p, p->single, header->singles, ATTEND_WARP_ROWS);
    check_items(p, p->tile, header->tiles, attend_tile_rows(p->at->shape.head_dim));
    for (uint32_t i = 1; i < header->tiles; i++)
        assert_true(p->tile[i - 1].to - p->tile[i - 1].from >= p->tile[i].to - p->tile[i].from);
    for (uint32_t r = 0; r < header->rows; r++)
        for (uint32_t i = 0; i < p->ratio * p->splits; i++)
            assert_int_equal(p->seen[(size_t)r * p->ratio * p->splits + i],
                             i % p->splits <= p->row[r].position / ATTEND_SPLIT);
    check_folds(p);
    assert_int_equal(p->kinds, (header->singles ? ATTEND_SINGLE : 0) |
                                   (header->tiles ? ATTEND_TILES : 0) |
                                   (header->folds ? ATTEND_FOLD : 0));
}

static uint32_t draw(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

/* Lengths at which something begins or ends are more likely than others. */
static uint32_t draw_length(uint32_t *seed, uint32_t most)
{
    static const uint32_t edges[] = {1, 31, 32, 33, 255, 256, 257, 511, 512, 513, 700, 1024, 1500};
    uint32_t length =
        draw(seed, 3) ? edges[draw(seed, sizeof(edges) / sizeof(*edges))] : 1 + draw(seed, most);

    return length < most ? length : most;
}

static void add_some(struct attend_case *at, uint32_t *seed)
{
    uint32_t sequences = 1 + draw(seed, 24), context, rows, like, shared, most;

    for (uint32_t s = 0; s < sequences; s++) {
        context = draw(seed, 4) ? draw_length(seed, 1700) : 0;
        rows = draw(seed, 3) ? 1 : draw(seed, 2) ? 1 + draw(seed, 20) : draw_length(seed, 280);
        if (at->step.rows + rows > at->shape.limits.rows_max)
            return;
        like = s == 0 ? 0 : draw(seed, s);
        most = s == 0 ? 0 : at->step.seq_ctx[like] + at->step.seq_rows[like];
        most = (most < context ? most : context) / ATTEND_PAGE;
        shared = draw(seed, 3) ? most : draw(seed, most + 1);
        attend_case_add(at, context, rows, like, shared);
    }
}

/* One planner plans many steps; what it remembers of the last does not show. */
static void test_each_row_sees_each_position_once(void **state)
{
    static const uint32_t shapes[][3] = {{8, 2, 64},  {4, 4, 32},   {10, 2, 96},  {17, 1, 128},
                                         {32, 2, 64}, {130, 1, 64}, {16, 4, 256}, {71, 1, 256}};
    uint32_t seed = 11;

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct attend_shape shape = shape_of(shapes[i][0], shapes[i][1], shapes[i][2]);
        struct attend_planner *planner;

        shape.cascade = i % 4 != 3;
        planner = attend_planner_new(&shape);
        for (uint32_t round = 0; round < 12; round++) {
            struct attend_case *at = attend_case_new(&shape, seed);
            struct planned p;

            add_some(at, &seed);
            p = plan_with(planner, at);
            check(&p);
            forget(&p);
            attend_case_free(at);
        }
        attend_planner_free(planner);
    }
}

/* Sixty-four sequences that begin with the same 600 tokens read two splits of them together. */
static void test_what_is_shared_is_read_once(void **state)
{
    struct attend_shape shape = shape_of(8, 2, 64); /* 4 heads a KV head: 16 rows a block */
    struct attend_case *at = attend_case_new(&shape, 3);
    struct planned p;

    (void)state;
    for (uint32_t i = 0; i < 64; i++)
        attend_case_add(at, 640 + i, 1, 0, i == 0 ? 0 : 600 / ATTEND_PAGE);
    p = plan(at);
    check(&p);
    assert_int_equal(p.header->tiles, 2 * 64 / 16);
    assert_int_equal(p.header->singles, 64);
    assert_int_equal(p.header->folds, 64);
    forget(&p);

    at->shape.cascade = false;
    p = plan(at);
    check(&p);
    assert_int_equal(p.header->tiles, 0);
    assert_int_equal(p.header->singles, 64 * 3);
    forget(&p);
    attend_case_free(at);
}

/* Four rows of four heads are as much as one warp has: no block is asked for. */
static void test_few_that_share_are_one_warp(void **state)
{
    struct attend_shape shape = shape_of(8, 2, 64);
    struct attend_case *at = attend_case_new(&shape, 4);
    struct planned p;

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        attend_case_add(at, 300, 1, 0, i == 0 ? 0 : 8);
    p = plan(at);
    check(&p);
    assert_int_equal(p.header->tiles, 0);
    assert_int_equal(p.header->singles, 1 + 4);
    forget(&p);
    attend_case_free(at);
}

/* Row 510 does not see position 511, though the block is the same: it reads that split alone. */
static void test_a_split_that_is_not_whole_is_not_shared(void **state)
{
    struct attend_shape shape = shape_of(4, 4, 64);
    struct attend_case *at = attend_case_new(&shape, 5);
    struct planned p;

    (void)state;
    attend_case_add(at, 512, 1, 0, 0);
    attend_case_add(at, 510, 1, 0, 16);
    attend_case_add(at, 511, 1, 0, 16);
    p = plan(at);
    check(&p);
    /* split 0 of all three, split 1 of the first and the third; alone: one split 2, one split 1 */
    assert_int_equal(p.header->singles, 4);
    assert_int_equal(p.single[0].rows, 3);
    assert_int_equal(p.single[1].rows, 2);
    forget(&p);
    attend_case_free(at);
}

/* The same last block after other blocks, or in another place, is no shared split. */
static void test_all_blocks_of_a_split_must_be_the_same(void **state)
{
    struct attend_shape shape = shape_of(4, 4, 64);
    struct attend_case *at = attend_case_new(&shape, 6);
    struct planned p;
    uint32_t *blocks;

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        attend_case_add(at, 600, 1, 0, 0);
    blocks = at->slots.blocks;
    blocks[at->slots.blocks_stride + 7] = blocks[7];              /* its other seven are its own */
    blocks[2 * (size_t)at->slots.blocks_stride + 15] = blocks[7]; /* split 1 */
    p = plan(at);
    check(&p);
    assert_int_equal(p.header->singles, 9);
    forget(&p);
    attend_case_free(at);
}

/* Few blocks that hundreds of sequences share: not all partial results have a place. */
static void test_without_places_for_parts_sequences_walk(void **state)
{
    struct attend_shape shape = shape_of(8, 2, 64);
    struct attend_case *at;
    struct planned p;

    (void)state;
    shape.limits.blocks = 200;
    shape.limits.sequences_max = 40;
    at = attend_case_new(&shape, 7);
    for (uint32_t i = 0; i < 40; i++)
        attend_case_add(at, 1900 + i % 3, 1, 0, i == 0 ? 0 : 59);
    p = plan(at);
    check(&p);
    assert_in_range(p.header->folds, 1, 39);
    assert_true(p.tile[0].to == 8 && p.row[p.tile[0].first].part == ATTEND_NO_PART);
    forget(&p);
    attend_case_free(at);
}

/* A context of one split needs no fold, and a long prompt no partial results. */
static void test_parts_are_for_those_who_need_them(void **state)
{
    struct attend_shape shape = shape_of(8, 2, 64);
    struct attend_case *at = attend_case_new(&shape, 8);
    struct planned p;

    (void)state;
    attend_case_add(at, 255, 1, 0, 0);
    attend_case_add(at, 0, 700, 0, 0);
    p = plan(at);
    check(&p);
    assert_int_equal(p.kinds, ATTEND_SINGLE | ATTEND_TILES);
    assert_int_equal(p.header->singles, 1);
    assert_int_equal(p.header->tiles, 44); /* of 16 rows */
    forget(&p);
    attend_case_free(at);
}

/* What matrix units do not do is given rows and blocks, and nothing else. */
static void test_another_head_size_is_plain(void **state)
{
    struct attend_shape shape = shape_of(6, 2, 80);
    struct attend_case *at = attend_case_new(&shape, 9);
    struct planned p;

    (void)state;
    attend_case_add(at, 300, 1, 0, 0);
    attend_case_add(at, 20, 3, 0, 0);
    p = plan(at);
    assert_int_equal(p.kinds, ATTEND_PLAIN);
    assert_int_equal(attend_part_bytes(&shape), 0);
    for (uint32_t r = 0; r < 4; r++) {
        uint32_t s = r == 0 ? 0 : 1;

        assert_int_equal(p.row[r].position, r == 0 ? 300 : 20 + r - 1);
        assert_int_equal(p.row[r].part, ATTEND_NO_PART);
        for (uint32_t page = 0; page <= p.row[r].position / ATTEND_PAGE; page++)
            assert_int_equal(p.blocks[p.row[r].blocks + page], attend_case_blocks(at, s)[page]);
    }
    forget(&p);
    attend_case_free(at);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The step of a full GPU: 512 sequences of about 1,000 tokens; says how long the host plans it. */
static void test_a_full_decode_is_planned(void **state)
{
    struct attend_shape shape = shape_of(32, 8, 128);
    struct attend_case *at = attend_case_new(&shape, 10);
    struct attend_planner *planner = attend_planner_new(&shape);
    struct planned p;
    uint64_t best_ns = UINT64_MAX;

    (void)state;
    for (uint32_t i = 0; i < 512; i++)
        attend_case_add(at, 900 + i % 248, 1, 0, i == 0 ? 0 : i % 2 * 16);
    for (int i = 0; i < 20; i++) {
        uint64_t begin_ns, end_ns;

        p = plan_with(planner, at);
        begin_ns = now_ns();
        attend_plan(planner, &at->step, &at->slots, p.image, &p.kinds);
        end_ns = now_ns();
        best_ns = end_ns - begin_ns < best_ns ? end_ns - begin_ns : best_ns;
        if (i < 19)
            forget(&p);
    }
    check(&p);
    assert_int_equal(p.header->folds, 512);
    print_message("512 sequences of 1k tokens are planned in %.1f us, image of %zu bytes\n",
                  (double)best_ns / 1e3, p.bytes);
    forget(&p);
    attend_planner_free(planner);
    attend_case_free(at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_row_sees_each_position_once),
        cmocka_unit_test(test_what_is_shared_is_read_once),
        cmocka_unit_test(test_few_that_share_are_one_warp),
        cmocka_unit_test(test_a_split_that_is_not_whole_is_not_shared),
        cmocka_unit_test(test_all_blocks_of_a_split_must_be_the_same),
        cmocka_unit_test(test_without_places_for_parts_sequences_walk),
        cmocka_unit_test(test_parts_are_for_those_who_need_them),
        cmocka_unit_test(test_another_head_size_is_plain),
        cmocka_unit_test(test_a_full_decode_is_planned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
