/* quarantine.c: one statement each. */
#include "sql/quarantine.h"

#include <stdlib.h>

#include "sql/queries.h"

/* The requests as columns. */
struct columns {
    struct uuid *job;
    int64_t *line;
    int32_t *chunk;
    int32_t *accused;
    int32_t *attempt;
    int32_t *tokens;
    int64_t *cost;
    int64_t *recompute;
    int64_t *unbooked;
};

static struct columns columns_of(const struct burial *burial, struct arena *arena)
{
    const size_t room = burial->count + 1;
    struct columns ret = {
        .job = arena_zalloc(arena, room, sizeof *ret.job),
        .line = arena_zalloc(arena, room, sizeof *ret.line),
        .chunk = arena_zalloc(arena, room, sizeof *ret.chunk),
        .accused = arena_zalloc(arena, room, sizeof *ret.accused),
        .attempt = arena_zalloc(arena, room, sizeof *ret.attempt),
        .tokens = arena_zalloc(arena, room, sizeof *ret.tokens),
        .cost = arena_zalloc(arena, room, sizeof *ret.cost),
        .recompute = arena_zalloc(arena, room, sizeof *ret.recompute),
        .unbooked = arena_zalloc(arena, room, sizeof *ret.unbooked),
    };

    for (size_t i = 0; i < burial->count; i++) {
        const struct burial_request *request = &burial->requests[i];

        ret.job[i] = request->job;
        ret.line[i] = request->line;
        ret.chunk[i] = request->chunk;
        ret.accused[i] = request->accused;
        ret.attempt[i] = (int32_t)request->attempt;
        ret.tokens[i] = (int32_t)request->tokens;
        ret.cost[i] = (int64_t)request->cost_ns;
        ret.recompute[i] = (int64_t)request->recompute_ns;
        if (request->recompute_ns > request->booked_ns)
            ret.unbooked[i] = (int64_t)(request->recompute_ns - request->booked_ns);
    }
    return ret;
}

enum err quarantine_bury(struct db *db, const struct burial *burial, bool *ret)
{
    const size_t count = burial->count;
    struct db_result result = {0};
    struct arena arena = {0};
    struct columns at = columns_of(burial, &arena);
    enum err rc = db_exec(
        db, QUERY_WORKER_BURY_PROVEN,
        DB_PARAMS(db_uuid(&burial->worker), db_i64(burial->token), db_text(burial->why),
                  db_text(burial->ended), db_bool(burial->proven),
                  burial->signal ? db_i32(burial->signal) : db_null(), db_text(burial->thread),
                  db_bool(burial->apart), db_i32((int32_t)burial->charge.cap),
                  db_i32((int32_t)burial->charge.deaths_alone), db_i64((int64_t)burial->held_ns),
                  db_i64((int64_t)burial->overhead_ns), db_i64((int64_t)burial->idle_ns),
                  db_i64((int64_t)burial->recompute_ns), db_uuid_array(at.job, count),
                  db_i64_array(at.line, count), db_i32_array(at.chunk, count),
                  db_i32_array(at.accused, count), db_i32_array(at.attempt, count),
                  db_i32_array(at.tokens, count), db_i64_array(at.cost, count),
                  db_i64_array(at.recompute, count), db_i64_array(at.unbooked, count)),
        &result);

    arena_release(&arena);
    if (rc)
        return rc;
    *ret = db_get_slice(&result, 0, 0).data[0] == 'b';
    db_result_release(&result);
    return ERR_OK;
}

enum err quarantine_lines(struct db *db, struct uuid job, int64_t first_line, uint32_t lines,
                          struct arena *arena, struct quarantine_line **ret, uint32_t *ret_count)
{
    struct db_result result = {0};
    struct quarantine_line *found;
    enum err rc = db_exec(db, QUERY_SUSPECTS_OF,
                          DB_PARAMS(db_uuid(&job), db_i64(first_line), db_i64(lines)), &result);

    if (rc)
        return rc;
    found = arena_zalloc(arena, (size_t)result.rows + 1, sizeof *found);
    for (int row = 0; row < result.rows; row++)
        found[row] = (struct quarantine_line){
            .line = db_get_i64(&result, row, 0),
            .evidence = {.cap = (uint32_t)db_get_i32(&result, row, 1),
                         .deaths_alone = (uint32_t)db_get_i32(&result, row, 2),
                         .vanished = (uint32_t)db_get_i64(&result, row, 3),
                         .vanished_hosts = (uint32_t)db_get_i64(&result, row, 4),
                         .vanished_alone = (uint32_t)db_get_i64(&result, row, 5),
                         .vanished_alone_hosts = (uint32_t)db_get_i64(&result, row, 6)},
        };
    *ret = found;
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return ERR_OK;
}

enum err quarantine_add_dead(struct db *db, struct uuid job, int64_t line, struct slice custom_id,
                             struct slice body, struct arena *arena, struct slice *ret_deaths)
{
    struct db_result result = {0};
    struct slice deaths;
    enum err rc = db_exec(
        db, QUERY_DEAD_LETTER_ADD,
        DB_PARAMS(db_uuid(&job), db_i64(line), db_text_slice(custom_id), db_json(body)), &result);

    if (rc)
        return rc;
    deaths = db_get_slice(&result, 0, 0);
    *ret_deaths = (struct slice){arena_copy(arena, deaths.data, deaths.len), deaths.len};
    db_result_release(&result);
    return ERR_OK;
}
