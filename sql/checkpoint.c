/* checkpoint.c: one query, copied into the caller's arena. */
#include "sql/checkpoint.h"

#include "sql/queries.h"

enum err checkpoints_load(struct db *db, const struct uuid *job, int64_t first_line, uint32_t lines,
                          struct arena *arena, struct checkpoint_row **ret, uint32_t *ret_count)
{
    struct db_result result = {0};
    struct checkpoint_row *rows;
    enum err rc;

    rc = db_exec(db, QUERY_CHECKPOINTS_LOAD,
                 DB_PARAMS(db_uuid(job), db_i64(first_line), db_i64(first_line + lines)), &result);
    if (rc)
        return rc;
    rows = arena_zalloc(arena, (size_t)result.rows + 1, sizeof(*rows));
    for (int row = 0; row < result.rows; row++) {
        struct slice state = db_get_slice(&result, row, 5);

        rows[row] = (struct checkpoint_row){
            .line = db_get_i64(&result, row, 0),
            .attempt = (uint32_t)db_get_i32(&result, row, 1),
            .tokens = (uint32_t)db_get_i32(&result, row, 2),
            .gpu_ns = (uint64_t)db_get_i64(&result, row, 3),
            .worker = db_get_uuid(&result, row, 4),
            .state = {arena_copy(arena, state.data, state.len), state.len},
        };
    }
    *ret = rows;
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return ERR_OK;
}
