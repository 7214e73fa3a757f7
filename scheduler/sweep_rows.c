/* sweep_rows.c: from chunks of the index to rows; pure. */
#include "scheduler/sweep.h"

#include "config/log.h"

#include <inttypes.h>

static struct slice *names_of(const struct work_chunk *chunk, struct arena *arena)
{
    struct slice *names = arena_zalloc(arena, chunk->lines, sizeof(*names));
    char id[UUID_BATCH_SIZE];

    if (!work_names(chunk->custom_ids, chunk->lines, arena, names))
        log_error("sweep.custom_ids_damaged", "job=%s chunk=%" PRId32,
                  uuid_format_batch(chunk->job, id), chunk->chunk);
    return names;
}

static bool is_done(const struct work_chunk *chunk, uint32_t index)
{
    return chunk->done_map[index / 8] & (0x80u >> (index % 8));
}

static void add_chunk(const struct work_chunk *chunk, struct arena *arena, struct sweep_rows *ret)
{
    struct slice *names = names_of(chunk, arena);

    ret->chunks[ret->chunks_count] = (struct commit_chunk){.job = chunk->job,
                                                           .chunk = chunk->chunk,
                                                           .partition = 0,
                                                           .first_line = chunk->first_line,
                                                           .lines = chunk->lines,
                                                           .suspect = chunk->suspect};
    for (uint32_t i = 0; i < chunk->lines; i++) {
        if (is_done(chunk, i))
            continue;
        ret->rows[ret->rows_count++] = (struct commit_row){
            .chunk = ret->chunks_count,
            .line = chunk->first_line + i,
            .custom_id = names[i],
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
