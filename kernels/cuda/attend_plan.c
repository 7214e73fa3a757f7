/*
 * attend_plan.c: which part of which context is worked on by whom.
 *
 * A sequence goes one of three ways. With rows for one warp (decoding, mostly) each split is an
 * item of its own; with rows for one block, where heads are many or the context is long, likewise;
 * with more rows, blocks of rows walk through their contexts and need no partial results. Where
 * places for partial results run out, a sequence walks too: slower, and the same bits.
 *
 * Cascade: the last block of a split that a sequence sees whole carries a stamp, by which the next
 * sequence that names this block there finds the first. All is done in one pass over rows and
 * splits, nothing is sorted but items of blocks by their number of splits (counted), nothing is
 * allocated.
 */
#include "kernels/cuda/attend_plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)ATTEND_PAGE == (int)DEVICE_BLOCK_TOKENS, "a page is a KV block");
_Static_assert(sizeof(struct attend_header) % 16 == 0, "sections begin aligned");

enum {
    NONE = -1,
    LONG_SPLITS = 4, /* from here on rows of one block do not walk */
};

enum way { WAY_WARP, WAY_BLOCK, WAY_WALK };

/* One sequence of the step. */
struct work {
    enum way way;
    uint32_t splits; /* that its last row sees */
    uint32_t whole;  /* that each of its rows sees whole; 0 where there are no parts */
    uint32_t part;   /* of its first row, or ATTEND_NO_PART */
    uint32_t entry;  /* its split 0, where there are parts */
};

/* One split of one sequence that has parts. */
struct entry {
    int32_t group, next;
    uint32_t sequence;
};

/* Sequences that share a split. */
struct group {
    int32_t head, tail; /* entries */
    uint32_t sequences, rows, split;
    uint32_t first;         /* its rows in the image */
    const uint32_t *blocks; /* of the split */
};

/* Of a block: the group that it closes, if `step` is this one. */
struct stamp {
    uint32_t step;
    int32_t group;
};

/* What follows from the shape. */
struct bounds {
    uint32_t ratio;     /* query heads of a KV head */
    uint32_t heads;     /* of these in an item of a block */
    uint32_t rows_each; /* rows in an item of a block */
    uint32_t splits, slots, singles, tiles;
};

struct attend_planner {
    struct attend_shape shape;
    struct bounds bounds;
    uint32_t step;
    struct work *work;        /* [sequences_max] */
    struct entry *entry;      /* [slots] */
    struct group *group;      /* [slots] */
    struct stamp *stamp;      /* [blocks] */
    struct attend_item *tile; /* [tiles] before they are in order */
    uint32_t *bin;            /* [splits + 1] */
};

/* The step that is being planned. */
struct draft {
    struct attend_planner *planner;
    const struct step *step;
    const struct slots *slots;
    struct attend_header *header;
    struct attend_row *row;
    size_t at; /* bytes written */
    uint32_t parts, entries, groups, tiles;
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t parts_of(uint32_t value, uint32_t each)
{
    return (value + each - 1) / each;
}

/*
 * Places for partial results: as many as contexts without anything in common need, and some for
 * each sequence that has, but never more than there can be.
 */
static struct bounds bounds_of(const struct attend_shape *shape)
{
    const struct device_limits *limits = &shape->limits;
    uint32_t tile = attend_tile_rows(shape->head_dim);
    struct bounds b = {.ratio = shape->heads / shape->kv_heads};
    uint64_t slots;

    b.heads = least(b.ratio, tile);
    b.rows_each = b.ratio > tile ? 1 : tile / b.ratio;
    b.splits = parts_of(limits->context_max, ATTEND_SPLIT);
    slots = (uint64_t)limits->blocks / ATTEND_SPLIT_PAGES + 4ull * limits->sequences_max;
    if (slots > (uint64_t)limits->rows_max * b.splits)
        slots = (uint64_t)limits->rows_max * b.splits;
    b.slots = attend_has_tiles(shape->head_dim) ? (uint32_t)slots : 0;
    b.singles = b.slots + limits->sequences_max;
    b.tiles = (limits->rows_max / b.rows_each + limits->sequences_max + b.slots) *
              parts_of(b.ratio, b.heads);
    return b;
}

size_t attend_image_bytes(const struct attend_shape *shape)
{
    const struct device_limits *limits = &shape->limits;
    struct bounds b = bounds_of(shape);
    size_t rows = sizeof(struct attend_header) +
                  ((size_t)limits->rows_max + b.slots) * sizeof(struct attend_row);
    size_t blocks = (size_t)limits->sequences_max * parts_of(limits->context_max, ATTEND_PAGE) *
                    sizeof(uint32_t);

    return rows + (blocks + 15) / 16 * 16 + limits->rows_max * sizeof(struct attend_fold) +
           ((size_t)b.singles + b.tiles) * sizeof(struct attend_item);
}

size_t attend_part_bytes(const struct attend_shape *shape)
{
    return (size_t)bounds_of(shape).slots * shape->heads * (shape->head_dim + 2) * sizeof(float);
}

struct attend_planner *attend_planner_new(const struct attend_shape *shape)
{
    struct attend_planner *planner = calloc(1, sizeof(*planner));
    struct bounds b = bounds_of(shape);

    if (planner == NULL)
        return NULL;
    planner->shape = *shape;
    planner->bounds = b;
    planner->work = calloc(shape->limits.sequences_max, sizeof(*planner->work));
    planner->entry = calloc((size_t)b.slots + 1, sizeof(*planner->entry));
    planner->group = calloc((size_t)b.slots + 1, sizeof(*planner->group));
    planner->stamp = calloc(shape->limits.blocks, sizeof(*planner->stamp));
    planner->tile = calloc(b.tiles, sizeof(*planner->tile));
    planner->bin = calloc((size_t)b.splits + 2, sizeof(*planner->bin));
    if (planner->work == NULL || planner->entry == NULL || planner->group == NULL ||
        planner->stamp == NULL || planner->tile == NULL || planner->bin == NULL) {
        attend_planner_free(planner);
        return NULL;
    }
    return planner;
}

void attend_planner_free(struct attend_planner *planner)
{
    if (planner == NULL)
        return;
    free(planner->work);
    free(planner->entry);
    free(planner->group);
    free(planner->stamp);
    free(planner->tile);
    free(planner->bin);
    free(planner);
}

/* Room for what comes next in the image; `at` becomes its offset. */
static void *begin_section(struct draft *draft, uint32_t *at)
{
    draft->at = (draft->at + 15) / 16 * 16;
    *at = (uint32_t)draft->at;
    return (char *)draft->header + draft->at;
}

static void choose_way(struct draft *draft, struct work *work, uint32_t rows, uint32_t context)
{
    const struct bounds *b = &draft->planner->bounds;
    uint32_t splits = parts_of(context + rows, ATTEND_SPLIT);
    bool few = rows <= b->rows_each && (rows == 1 || splits >= LONG_SPLITS);

    *work = (struct work){WAY_WALK, splits, 0, ATTEND_NO_PART, 0};
    if ((uint64_t)rows * b->ratio <= ATTEND_WARP_ROWS)
        work->way = WAY_WARP;
    else if (few && splits > 1)
        work->way = WAY_BLOCK;
    if (work->way == WAY_WALK || splits == 1)
        return;
    if ((uint64_t)rows * splits > b->slots - draft->parts) {
        work->way = WAY_WALK;
        return;
    }
    work->part = draft->parts;
    work->entry = draft->entries;
    work->whole = (context + 1) / ATTEND_SPLIT;
    draft->parts += rows * splits;
    draft->entries += splits;
}

/* The sequence's split joins those that read the same blocks there, or is the first. */
static void join(struct draft *draft, uint32_t sequence, uint32_t split, const uint32_t *blocks)
{
    struct attend_planner *planner = draft->planner;
    struct stamp *stamp = &planner->stamp[blocks[ATTEND_SPLIT_PAGES - 1]];
    int32_t at = (int32_t)(planner->work[sequence].entry + split);
    struct group *group;

    assert(blocks[ATTEND_SPLIT_PAGES - 1] < planner->shape.limits.blocks);
    if (stamp->step != planner->step) {
        *stamp = (struct stamp){planner->step, (int32_t)draft->groups};
        planner->group[draft->groups++] = (struct group){at, at, 0, 0, split, 0, blocks};
    }
    group = &planner->group[stamp->group];
    if (group->split != split ||
        memcmp(group->blocks, blocks, ATTEND_SPLIT_PAGES * sizeof(*blocks)) != 0)
        return;
    planner->entry[group->tail].next = at;
    planner->entry[at] = (struct entry){stamp->group, NONE, sequence};
    group->tail = at;
    group->sequences++;
    group->rows += draft->step->seq_rows[sequence];
}

static void add_sequence(struct draft *draft, uint32_t sequence, uint32_t *blocks_to, uint32_t len)
{
    const struct step *step = draft->step;
    struct work *work = &draft->planner->work[sequence];
    uint32_t rows = step->seq_rows[sequence], context = step->seq_ctx[sequence];
    uint32_t first = step->seq_row[sequence];
    const uint32_t *blocks =
        draft->slots->blocks + (size_t)step->seq_slot[sequence] * draft->slots->blocks_stride;

    memcpy(blocks_to + len, blocks, parts_of(context + rows, ATTEND_PAGE) * sizeof(*blocks));
    choose_way(draft, work, rows, context);
    for (uint32_t i = 0; i < rows; i++)
        draft->row[first + i] = (struct attend_row){
            first + i, context + i,
            work->part == ATTEND_NO_PART ? ATTEND_NO_PART : work->part + i * work->splits, len};
    if (work->part == ATTEND_NO_PART)
        return;
    for (uint32_t split = 0; split < work->splits; split++) {
        draft->planner->entry[work->entry + split].group = NONE;
        if (draft->planner->shape.cascade && split < work->whole)
            join(draft, sequence, split, blocks + (size_t)split * ATTEND_SPLIT_PAGES);
    }
}

/* Rows and block ids, and who shares what. */
static void write_sequences(struct draft *draft)
{
    const struct step *step = draft->step;
    uint32_t len = 0, *blocks;

    draft->row = begin_section(draft, &draft->header->rows_at);
    draft->at += step->rows * sizeof(*draft->row);
    blocks = begin_section(draft, &draft->header->blocks_at);
    for (uint32_t s = 0; s < step->sequences; s++) {
        assert(step->seq_ctx[s] + step->seq_rows[s] <= draft->planner->shape.limits.context_max);
        add_sequence(draft, s, blocks, len);
        len += parts_of(step->seq_ctx[s] + step->seq_rows[s], ATTEND_PAGE);
    }
    draft->at += len * sizeof(*blocks);
}

static void write_folds(struct draft *draft)
{
    const struct step *step = draft->step;
    struct attend_fold *fold = begin_section(draft, &draft->header->folds_at);
    uint32_t len = 0;

    for (uint32_t s = 0; s < step->sequences; s++) {
        if (draft->planner->work[s].part == ATTEND_NO_PART)
            continue;
        for (uint32_t i = 0; i < step->seq_rows[s]; i++) {
            const struct attend_row *row = &draft->row[step->seq_row[s] + i];

            fold[len++] =
                (struct attend_fold){row->row, row->part, row->position / ATTEND_SPLIT + 1, 0};
        }
    }
    draft->header->folds = len;
    draft->at += len * sizeof(*fold);
}

/* The rows of each group side by side, as items want them. */
static void write_members(struct draft *draft)
{
    const struct attend_planner *planner = draft->planner;
    uint32_t at;
    struct attend_row *row = begin_section(draft, &at);
    struct attend_row *const from = row;

    for (uint32_t g = 0; g < draft->groups; g++) {
        struct group *group = &planner->group[g];

        if (group->sequences < 2)
            continue;
        group->first = (uint32_t)(row - draft->row);
        for (int32_t e = group->head; e != NONE; e = planner->entry[e].next) {
            uint32_t sequence = planner->entry[e].sequence;
            uint32_t rows = draft->step->seq_rows[sequence];

            memcpy(row, draft->row + draft->step->seq_row[sequence], rows * sizeof(*row));
            row += rows;
        }
    }
    draft->at += (size_t)(row - from) * sizeof(*row);
}

static bool is_shared(const struct attend_planner *planner, const struct work *work, uint32_t split)
{
    int32_t group = work->part == ATTEND_NO_PART ? NONE : planner->entry[work->entry + split].group;

    return group != NONE && planner->group[group].sequences > 1;
}

static bool fits_warp(const struct draft *draft, uint32_t rows)
{
    return (uint64_t)rows * draft->planner->bounds.ratio <= ATTEND_WARP_ROWS;
}

/* The splits of a sequence that are whole, or the one that is not. */
static uint32_t add_singles(const struct draft *draft, uint32_t s, bool whole,
                            struct attend_item *item)
{
    const struct attend_planner *planner = draft->planner;
    const struct step *step = draft->step;
    const struct work *work = &planner->work[s];
    uint32_t end = step->seq_ctx[s] + step->seq_rows[s], full = end / ATTEND_SPLIT, len = 0;

    for (uint32_t split = whole ? 0 : full; split < (whole ? full : work->splits); split++)
        if (!is_shared(planner, work, split))
            item[len++] = (struct attend_item){step->seq_row[s],
                                               step->seq_rows[s],
                                               0,
                                               planner->bounds.ratio,
                                               split,
                                               split + 1,
                                               least(end, (split + 1) * ATTEND_SPLIT),
                                               0};
    return len;
}

/* Whole splits first: what is short at the end fills the gaps. */
static void write_singles(struct draft *draft)
{
    const struct attend_planner *planner = draft->planner;
    struct attend_item *item = begin_section(draft, &draft->header->singles_at);
    uint32_t len = 0;

    for (uint32_t g = 0; g < draft->groups; g++) {
        const struct group *group = &planner->group[g];

        if (group->sequences > 1 && fits_warp(draft, group->rows))
            item[len++] = (struct attend_item){group->first,
                                               group->rows,
                                               0,
                                               planner->bounds.ratio,
                                               group->split,
                                               group->split + 1,
                                               (group->split + 1) * ATTEND_SPLIT,
                                               0};
    }
    for (int whole = 1; whole >= 0; whole--)
        for (uint32_t s = 0; s < draft->step->sequences; s++)
            if (planner->work[s].way == WAY_WARP)
                len += add_singles(draft, s, whole, item + len);
    draft->header->singles = len;
    draft->at += len * sizeof(*item);
}

/*
 * `rows` rows from `first` on, read splits from .. to - 1, in as many pieces as their heads need.
 */
static void add_tile(struct draft *draft, uint32_t first, uint32_t rows, uint32_t from, uint32_t to,
                     uint32_t end)
{
    struct attend_planner *planner = draft->planner;
    const struct bounds *b = &planner->bounds;

    for (uint32_t head = 0; head < b->ratio; head += b->heads) {
        assert(draft->tiles < b->tiles);
        planner->tile[draft->tiles++] = (struct attend_item){
            first, rows, head, least(b->heads, b->ratio - head), from, to, end, 0};
        planner->bin[to - from]++;
    }
}

/* Rows first .. first + rows - 1 of a group, or of a sequence, and one split. */
static void add_tiles(struct draft *draft, uint32_t first, uint32_t rows, uint32_t split,
                      uint32_t end)
{
    uint32_t each = draft->planner->bounds.rows_each;

    for (uint32_t i = 0; i < rows; i += each)
        add_tile(draft, first + i, least(each, rows - i), split, split + 1, end);
}

static void add_walk(struct draft *draft, uint32_t s)
{
    const struct step *step = draft->step;
    uint32_t rows = step->seq_rows[s], each = draft->planner->bounds.rows_each;

    for (uint32_t i = 0; i < rows; i += each) {
        uint32_t len = least(each, rows - i), end = step->seq_ctx[s] + i + len;

        add_tile(draft, step->seq_row[s] + i, len, 0, parts_of(end, ATTEND_SPLIT), end);
    }
}

static void collect_tiles(struct draft *draft)
{
    const struct attend_planner *planner = draft->planner;
    const struct step *step = draft->step;

    for (uint32_t g = 0; g < draft->groups; g++) {
        const struct group *group = &planner->group[g];

        if (group->sequences > 1 && !fits_warp(draft, group->rows))
            add_tiles(draft, group->first, group->rows, group->split,
                      (group->split + 1) * ATTEND_SPLIT);
    }
    for (uint32_t s = 0; s < step->sequences; s++) {
        const struct work *work = &planner->work[s];
        uint32_t end = step->seq_ctx[s] + step->seq_rows[s];

        if (work->way == WAY_WALK)
            add_walk(draft, s);
        for (uint32_t split = 0; work->way == WAY_BLOCK && split < work->splits; split++)
            if (!is_shared(planner, work, split))
                add_tiles(draft, step->seq_row[s], step->seq_rows[s], split,
                          least(end, (split + 1) * ATTEND_SPLIT));
    }
}

/* Longest first, so that no block begins a long walk when others are about to be done. */
static void write_tiles(struct draft *draft)
{
    struct attend_planner *planner = draft->planner;
    struct attend_item *item = begin_section(draft, &draft->header->tiles_at);
    uint32_t at = 0;

    memset(planner->bin, 0, (planner->bounds.splits + 2) * sizeof(*planner->bin));
    collect_tiles(draft);
    for (uint32_t splits = planner->bounds.splits + 1; splits-- > 0;) {
        uint32_t len = planner->bin[splits];

        planner->bin[splits] = at;
        at += len;
    }
    for (uint32_t i = 0; i < draft->tiles; i++)
        item[planner->bin[planner->tile[i].to - planner->tile[i].from]++] = planner->tile[i];
    draft->header->tiles = draft->tiles;
    draft->at += draft->tiles * sizeof(*item);
}

size_t attend_plan(struct attend_planner *planner, const struct step *step,
                   const struct slots *slots, void *image, uint32_t *ret_kinds)
{
    struct draft draft = {.planner = planner, .step = step, .slots = slots, .header = image};
    struct attend_header *header = image;

    *header = (struct attend_header){.rows = step->rows, .slots = planner->bounds.slots};
    draft.at = sizeof(*header);
    if (++planner->step == 0) { /* stamps of 2^32 steps ago */
        memset(planner->stamp, 0, planner->shape.limits.blocks * sizeof(*planner->stamp));
        planner->step = 1;
    }
    write_sequences(&draft);
    *ret_kinds = ATTEND_PLAIN;
    if (!attend_has_tiles(planner->shape.head_dim))
        return draft.at;
    write_folds(&draft);
    write_members(&draft);
    write_singles(&draft);
    write_tiles(&draft);
    *ret_kinds = (header->singles != 0 ? ATTEND_SINGLE : 0U) |
                 (header->tiles != 0 ? ATTEND_TILES : 0U) | (header->folds != 0 ? ATTEND_FOLD : 0U);
    return draft.at;
}
