/* sweep_rows.c: from chunks of the index to rows; pure. */
#include "scheduler/sweep.h"

#include "config/log.h"

#include <inttypes.h>
#include <string.h>
#include <zstd.h>

enum { CUSTOM_IDS_BYTES_MAX = 1024 * 1024 };

static struct slice unpack(struct slice packed, struct arena *arena)
{
    unsigned long long size = ZSTD_getFrameContentSize(packed.data, packed.len);
    char *text;

    if (!packed.data || size > CUSTOM_IDS_BYTES_MAX) /* the values for "unknown" and "error" too */
        return (struct slice){NULL, 0};
    text = arena_alloc(arena, size + 1);
    if (ZSTD_decompress(text, size, packed.data, packed.len) != size)
        return (struct slice){NULL, 0};
    return (struct slice){text, size};
}

/*
 * The custom_ids of a chunk. Each request has its row even where they are damaged: the name is then
 * empty, and the log says so.
 */
static struct slice *custom_ids(const struct work_chunk *chunk, struct arena *arena)
{
    struct slice *ids = arena_zalloc(arena, chunk->lines, sizeof(*ids));
    struct slice text = unpack(chunk->custom_ids, arena);
    const char *at = text.data, *end = at ? at + text.len : NULL;

    for (uint32_t i = 0; i < chunk->lines; i++) {
        const char *zero = at ? memchr(at, '\0', (size_t)(end - at)) : NULL;

        ids[i] = zero ? (struct slice){at, (size_t)(zero - at)} : SLICE("");
        if (!zero && i == 0) {
            char id[UUID_BATCH_SIZE];

            log_error("sweep.custom_ids_damaged", "job=%s chunk=%" PRId32,
                      uuid_format_batch(chunk->job, id), chunk->chunk);
        }
        at = zero ? zero + 1 : NULL;
    }
    return ids;
}

static bool is_done(const struct work_chunk *chunk, uint32_t index)
{
    return chunk->done_map[index / 8] & (0x80u >> (index % 8));
}

static void add_chunk(const struct work_chunk *chunk, struct arena *arena, struct sweep_rows *ret)
{
    struct slice *ids = custom_ids(chunk, arena);

    ret->chunks[ret->chunks_count] = (struct commit_chunk){.job = chunk->job,
                                                           .chunk = chunk->chunk,
                                                           .partition = 0,
                                                           .first_line = chunk->first_line,
                                                           .lines = chunk->lines};
    for (uint32_t i = 0; i < chunk->lines; i++) {
        if (is_done(chunk, i))
            continue;
        ret->rows[ret->rows_count++] = (struct commit_row){
            .chunk = ret->chunks_count,
            .line = chunk->first_line + i,
            .custom_id = ids[i],
            .status = chunk->wish == WORK_EXPIRE ? ROW_EXPIRED : ROW_CANCELLED,
            .error = chunk->wish == WORK_EXPIRE ? SLICE(WORK_ERROR_EXPIRED)
                                                : SLICE(WORK_ERROR_CANCELLED),
            .attempt = 1,
        };
    }
    ret->chunks_count++;
}

void sweep_build(const struct work_chunk *work, size_t count, uint32_t rows_max,
                 struct arena *arena, struct sweep_rows *ret)
{
    uint32_t lines = 0, chunks = 0;

    for (size_t i = 0; i < count; i++) {
        lines += work[i].wish == WORK_RUN ? 0 : work[i].lines - work[i].done_count;
        chunks += work[i].wish != WORK_RUN;
    }
    *ret = (struct sweep_rows){.chunks = arena_zalloc(arena, chunks + 1, sizeof(*ret->chunks)),
                               .rows = arena_zalloc(arena, lines + 1, sizeof(*ret->rows))};
    for (size_t i = 0; i < count; i++) {
        if (work[i].wish == WORK_RUN)
            continue;
        if (ret->rows_count > 0 && ret->rows_count + work[i].lines - work[i].done_count > rows_max)
            return;
        add_chunk(&work[i], arena, ret);
    }
}
