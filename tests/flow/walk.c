/* walk.c: workers that do anything at any time, and a model beside them. */
#include "tests/flow/walk.h"

#include "tests/flow/history.h"
#include "tests/flow/model.h"
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ACTORS = 3, LEASE_MS = 600000 };

/* A worker with what it believes; the database may know better. */
struct actor {
    struct queue_worker q;
    uint32_t claim[QUEUE_PARTITIONS]; /* beside q.partitions */
    int index;                        /* in the model; NOBODY before its first registration */
    bool lost;                        /* it has heard so */
    int64_t booked, wip[MODEL_JOBS];
    bool is_frozen; /* it does not know what became of `batch` */
    struct model_batch batch;
};

struct walk {
    struct db *db;
    uint64_t random;
    struct model now, marked;
    bool has_mark;
    struct actor actor[ACTORS];
    struct job job[MODEL_JOBS];
    int workers;
    uint32_t claims;
    struct walk_seen seen;
    const char *step;
    char said[1024]; /* what was not as predicted */
};

/* splitmix64 */
static uint64_t draw(struct walk *walk)
{
    uint64_t z = walk->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t below(struct walk *walk, uint32_t end)
{
    return (uint32_t)(draw(walk) % end);
}

/* Half of the time nothing: zero is the value that hides mistakes and the one that shows them. */
static int64_t some_ns(struct walk *walk)
{
    return below(walk, 2) ? 1 + below(walk, 5000) : 0;
}

static void say(struct walk *walk, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct walk *walk, const char *format, ...)
{
    size_t len = strlen(walk->said);
    va_list args;

    va_start(args, format);
    vsnprintf(walk->said + len, sizeof(walk->said) - len, format, args);
    va_end(args);
}

static void expect(struct walk *walk, enum err rc, enum model_outcome outcome)
{
    static const enum err errs[] = {
        [MODEL_OK] = ERR_OK,
        [MODEL_BEFORE] = ERR_OK,
        [MODEL_FENCED] = ERR_AGAIN,
        [MODEL_LOST] = ERR_LOST,
    };

    if (rc != errs[outcome])
        say(walk, "%s: %s, predicted %s; ", walk->step, err_name(rc), err_name(errs[outcome]));
}

static void expect_number(struct walk *walk, const char *what, int64_t number, int64_t predicted)
{
    if (number != predicted)
        say(walk, "%s: %s %d, predicted %d; ", walk->step, what, (int)number, (int)predicted);
}

/* ---------------------------------------------------------------- one step each */

static void enlist(struct walk *walk, struct actor *actor)
{
    char name[8];
    struct lease_spec spec;
    struct queue_worker q = actor->q;

    walk->step = "register";
    assert_true(walk->workers < MODEL_WORKERS);
    snprintf(name, sizeof(name), "w%02d", walk->workers % MODEL_WORKERS);
    spec = queue_spec(name, LEASE_MS);
    q.partitions_count = 0;
    q.seq = 0;
    *actor = (struct actor){.q = q, .index = walk->workers++};
    expect(walk, lease_register(actor->q.db, &spec, &actor->q.lease), MODEL_OK);
    model_register(&walk->now, actor->index);
}

static void claim(struct walk *walk, struct actor *actor)
{
    uint32_t wanted = 1 + below(walk, 2), count, predicted;
    struct lease_partition got[QUEUE_PARTITIONS];
    int32_t parts[QUEUE_PARTITIONS];
    enum model_outcome outcome;
    enum err rc;

    walk->step = "claim";
    if (actor->q.partitions_count + wanted > QUEUE_PARTITIONS)
        return;
    rc = lease_claim(actor->q.db, &actor->q.lease, "t", wanted, got, &count);
    outcome = model_claim(&walk->now, actor->index, wanted, walk->claims + 1, parts, &predicted);
    expect(walk, rc, outcome);
    expect_number(walk, "partitions", count, predicted);
    for (uint32_t i = 0; i < count; i++) {
        actor->claim[actor->q.partitions_count] = walk->claims + 1 + i;
        actor->q.partitions[actor->q.partitions_count++] =
            (struct commit_partition){"t", got[i].part, got[i].epoch, got[i].token};
    }
    walk->claims += QUEUE_PARTITIONS;
    actor->lost |= rc == ERR_LOST;
}

static void drop(struct actor *actor, uint32_t at)
{
    uint32_t last = --actor->q.partitions_count;

    actor->q.partitions[at] = actor->q.partitions[last];
    actor->claim[at] = actor->claim[last];
}

static void release(struct walk *walk, struct actor *actor)
{
    uint32_t at;
    int32_t part;
    enum err rc;

    walk->step = "release";
    if (actor->q.partitions_count == 0)
        return;
    at = below(walk, actor->q.partitions_count);
    part = actor->q.partitions[at].part;
    rc = lease_release(actor->q.db, &actor->q.lease, "t", &part, 1);
    expect(walk, rc, model_release(&walk->now, actor->index, part));
    if (below(walk, 3) == 0)
        drop(actor, at); /* else it forgets that it has let go */
    actor->lost |= rc == ERR_LOST;
}

static int64_t held_so_far(struct walk *walk, const struct actor *actor)
{
    return actor->booked + (actor->is_frozen ? actor->batch.held : 0) + some_ns(walk);
}

static void renew(struct walk *walk, struct actor *actor)
{
    int64_t held = held_so_far(walk, actor);
    enum err rc;

    walk->step = "renew";
    rc = lease_renew(actor->q.db, &actor->q.lease, actor->q.seq, (uint64_t)held);
    expect(walk, rc, model_renew(&walk->now, actor->index, actor->q.seq, held));
    actor->lost |= rc == ERR_LOST;
}

static void leave(struct walk *walk, struct actor *actor)
{
    int64_t held = held_so_far(walk, actor);

    walk->step = "leave";
    expect(walk, lease_leave(actor->q.db, &actor->q.lease, (uint64_t)held, "drained"), MODEL_OK);
    model_bury(&walk->now, actor->index, held);
    actor->lost = below(walk, 2);
}

/* The lease of an open worker runs out, whoever it is. */
static void bury(struct walk *walk)
{
    int worker = (int)below(walk, (uint32_t)walk->workers);
    uint32_t buried;
    char name[8];

    for (int i = 0; i < 3 && !model_is_open(&walk->now, worker); i++)
        worker = (int)below(walk, (uint32_t)walk->workers);

    walk->step = "burial";
    snprintf(name, sizeof(name), "w%02d", worker % MODEL_WORKERS);
    scene_expire(walk->db, name);
    expect(walk, lease_bury_expired(walk->db, &buried), MODEL_OK);
    expect_number(walk, "buried", buried, model_is_open(&walk->now, worker));
    model_bury(&walk->now, worker, 0);
    walk->seen.buried += buried;
}

static void fold(struct walk *walk)
{
    walk->step = "fold";
    pg_do(walk->db, "select * from mserve.tick(3600000)");
}

/* The database goes back to where it was some steps ago, or that is remembered for later. */
static void fail_over(struct walk *walk)
{
    walk->step = "failover";
    if (!walk->has_mark || below(walk, 2) == 0) {
        history_mark(walk->db);
        walk->marked = walk->now;
        walk->has_mark = true;
        return;
    }
    history_go_back(walk->db);
    walk->now = walk->marked;
    for (int i = 0; i < ACTORS; i++)
        history_reconnect(&walk->actor[i].q);
    walk->seen.failovers++;
}

/* ---------------------------------------------------------------- the commit */

static int place_of(const struct walk *walk, const struct model_batch *batch, uint32_t job,
                    uint32_t line)
{
    int32_t part =
        (int32_t)((walk->job[job].partition_first + line / QUEUE_CHUNK_LINES) % QUEUE_PARTITIONS);

    for (uint32_t i = 0; i < batch->parts; i++)
        if (batch->part[i].part == part)
            return (int)i;
    return -1;
}

static bool has_row(const struct model_batch *batch, uint32_t job, uint32_t line)
{
    for (uint32_t i = 0; i < batch->rows; i++)
        if (batch->row[i].job == job && batch->row[i].line == line)
            return true;
    return false;
}

static void make_rows(struct walk *walk, struct model_batch *batch)
{
    uint32_t tries = below(walk, MODEL_BATCH_ROWS);

    while (tries-- > 0 && batch->rows < MODEL_BATCH_ROWS) {
        struct model_row row = {.job = below(walk, MODEL_JOBS), .line = below(walk, MODEL_LINES)};

        if (place_of(walk, batch, row.job, row.line) < 0 || has_row(batch, row.job, row.line))
            continue;
        row.status = (enum row_status)below(walk, 4);
        row.ns = some_ns(walk);
        row.input = below(walk, 9);
        row.output = below(walk, 9);
        batch->row[batch->rows++] = row;
        batch->held += row.ns;
    }
}

static bool has_save(const struct model_batch *batch, uint32_t job, uint32_t line)
{
    for (uint32_t i = 0; i < batch->saves; i++)
        if (batch->save[i].job == job && batch->save[i].line == line)
            return true;
    return false;
}

/* Of checkpoints that are there; a line may come twice, and beside a row or a newer checkpoint. */
static void make_discards(struct walk *walk, struct model_batch *batch)
{
    for (uint32_t i = 0; i < 8 && batch->discards < MODEL_BATCH_DISCARDS; i++) {
        uint32_t job = below(walk, MODEL_JOBS), line = below(walk, MODEL_LINES / 2);

        if (!walk->now.job[job].line[line].saved.there || place_of(walk, batch, job, line) < 0)
            continue;
        batch->discard[batch->discards].job = job;
        batch->discard[batch->discards++].line = line;
    }
}

/* Of few lines, so that they meet others' checkpoints and rows, also those of their own batch. */
static void make_saves(struct walk *walk, struct model_batch *batch)
{
    uint32_t tries = below(walk, MODEL_BATCH_SAVED);

    while (tries-- > 0) {
        struct model_save save = {.job = below(walk, MODEL_JOBS),
                                  .line = below(walk, MODEL_LINES / 2),
                                  .attempt = 1 + below(walk, 3)};

        if (place_of(walk, batch, save.job, save.line) < 0 || has_save(batch, save.job, save.line))
            continue;
        save.tokens = below(walk, 50);
        save.ns = some_ns(walk);
        batch->save[batch->saves++] = save;
        batch->held += save.ns;
    }
    if (below(walk, 3) == 0)
        make_discards(walk, batch);
}

/* Everything that was held went somewhere: each amount is drawn, and their sum is what was held. */
static struct model_batch make_batch(struct walk *walk, const struct actor *actor)
{
    struct model_batch batch = {.worker = actor->index, .seq = actor->q.seq + 1};
    int64_t shrunk = 0;

    for (uint32_t i = 0; i < actor->q.partitions_count; i++) {
        batch.part[i].part = actor->q.partitions[i].part;
        batch.part[i].epoch = actor->q.partitions[i].epoch;
        batch.part[i].token = actor->q.partitions[i].token;
        batch.part[i].claim = actor->claim[i];
    }
    batch.parts = actor->q.partitions_count;
    make_rows(walk, &batch);
    make_saves(walk, &batch);
    batch.attempts = below(walk, 3);
    for (uint32_t i = 0; i < batch.attempts; i++) {
        batch.attempt[i].job = below(walk, MODEL_JOBS);
        batch.attempt[i].line = below(walk, MODEL_LINES / 2);
        batch.attempt[i].ns = some_ns(walk);
        batch.attempt[i].kept_ns = some_ns(walk);
        batch.held += batch.attempt[i].ns;
    }
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        batch.job[i].wip = some_ns(walk);
        batch.job[i].shared = some_ns(walk);
        batch.job[i].recompute = some_ns(walk);
        batch.held += batch.job[i].shared + batch.job[i].recompute;
        shrunk += actor->wip[i] - batch.job[i].wip;
    }
    batch.overhead = some_ns(walk);
    batch.idle = some_ns(walk);
    batch.lost = some_ns(walk);
    batch.held += batch.overhead + batch.lost;
    if (shrunk > batch.held)
        batch.idle += shrunk; /* time does not run backwards */
    batch.held += batch.idle - shrunk;
    return batch;
}

/* The arrays of a commit_batch, made from the model's words; the same each time. */
struct wire_batch {
    struct commit_batch batch;
    struct commit_partition parts[QUEUE_PARTITIONS];
    struct commit_chunk chunks[MODEL_BATCH_ROWS + MODEL_BATCH_SAVED + MODEL_BATCH_DISCARDS];
    struct commit_row rows[MODEL_BATCH_ROWS];
    struct commit_checkpoint saves[MODEL_BATCH_SAVED];
    struct commit_discard discards[MODEL_BATCH_DISCARDS];
    struct commit_attempt attempts[2];
    struct commit_job jobs[MODEL_JOBS];
    char ids[MODEL_BATCH_ROWS][8];
};

static uint32_t chunk_of(const struct walk *walk, struct wire_batch *wire,
                         const struct model_batch *from, uint32_t job, uint32_t line)
{
    struct commit_chunk chunk = {.job = walk->job[job].job,
                                 .chunk = (int32_t)(line / QUEUE_CHUNK_LINES),
                                 .partition = (uint32_t)place_of(walk, from, job, line),
                                 .first_line = line - line % QUEUE_CHUNK_LINES,
                                 .lines = QUEUE_CHUNK_LINES};
    uint32_t i = 0;

    while (i < wire->batch.chunks_count &&
           (wire->chunks[i].chunk != chunk.chunk || !uuid_equal(wire->chunks[i].job, chunk.job)))
        i++;
    if (i == wire->batch.chunks_count)
        wire->chunks[wire->batch.chunks_count++] = chunk;
    return i;
}

static void write_rows(const struct walk *walk, struct wire_batch *wire,
                       const struct model_batch *from)
{
    for (uint32_t i = 0; i < from->rows; i++) {
        const struct model_row *row = &from->row[i];
        bool is_done = row->status == ROW_COMPLETED;

        snprintf(wire->ids[i], sizeof(wire->ids[i]), "r%u", row->line % MODEL_LINES);
        wire->rows[i] = (struct commit_row){
            .chunk = chunk_of(walk, wire, from, row->job, row->line),
            .line = row->line,
            .custom_id = {wire->ids[i], strlen(wire->ids[i])},
            .status = row->status,
            .status_code = is_done ? 200 : 0,
            .response = is_done ? SLICE("{}") : (struct slice){NULL, 0},
            .error = is_done ? (struct slice){NULL, 0} : SLICE("{\"code\": \"x\"}"),
            .input_tokens = (uint32_t)row->input,
            .output_tokens = (uint32_t)row->output,
            .gpu_ns = (uint64_t)row->ns,
            .attempt = 1};
    }
    wire->batch.rows_count = from->rows;
}

static void write_saves(const struct walk *walk, struct wire_batch *wire,
                        const struct model_batch *from)
{
    for (uint32_t i = 0; i < from->saves; i++) {
        const struct model_save *save = &from->save[i];

        wire->saves[i] = (struct commit_checkpoint){
            .chunk = chunk_of(walk, wire, from, save->job, save->line),
            .line = save->line,
            .attempt = save->attempt,
            .tokens = (uint32_t)save->tokens,
            .gpu_ns = (uint64_t)save->ns,
            .state = SLICE("a state"),
        };
    }
    for (uint32_t i = 0; i < from->discards; i++)
        wire->discards[i] = (struct commit_discard){
            chunk_of(walk, wire, from, from->discard[i].job, from->discard[i].line),
            from->discard[i].line};
    wire->batch.checkpoints_count = from->saves;
    wire->batch.discards_count = from->discards;
}

static void write_books(const struct walk *walk, struct wire_batch *wire,
                        const struct model_batch *from)
{
    struct commit_books *books = &wire->batch.books;

    for (uint32_t i = 0; i < from->attempts; i++)
        wire->attempts[i] = (struct commit_attempt){.job = walk->job[from->attempt[i].job].job,
                                                    .line = from->attempt[i].line,
                                                    .gpu_ns = (uint64_t)from->attempt[i].ns,
                                                    .kept_ns = (uint64_t)from->attempt[i].kept_ns,
                                                    .why = i ? ATTEMPT_CANCELLED : ATTEMPT_FENCED};
    *books = (struct commit_books){.held_ns = (uint64_t)from->held,
                                   .overhead_ns = (uint64_t)from->overhead,
                                   .idle_ns = (uint64_t)from->idle,
                                   .lost_ns = (uint64_t)from->lost};
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        wire->jobs[i] =
            (struct commit_job){walk->job[i].job, (uint64_t)from->job[i].wip,
                                (uint64_t)from->job[i].shared, (uint64_t)from->job[i].recompute};
        books->wip_ns += wire->jobs[i].wip_ns;
        books->shared_ns += wire->jobs[i].shared_ns;
        books->recompute_ns += wire->jobs[i].recompute_ns;
    }
    wire->batch.attempts_count = from->attempts;
    wire->batch.jobs_count = MODEL_JOBS;
}

static enum err send_batch(const struct walk *walk, const struct actor *actor,
                           const struct model_batch *from, struct commit_result *ret)
{
    struct wire_batch wire = {.batch = {.worker = actor->q.lease.worker,
                                        .token = actor->q.lease.token,
                                        .seq = from->seq,
                                        .lease_ms = LEASE_MS,
                                        .partitions = wire.parts,
                                        .partitions_count = from->parts,
                                        .chunks = wire.chunks,
                                        .rows = wire.rows,
                                        .checkpoints = wire.saves,
                                        .discards = wire.discards,
                                        .attempts = wire.attempts,
                                        .jobs = wire.jobs}};

    for (uint32_t i = 0; i < from->parts; i++)
        wire.parts[i] = (struct commit_partition){"t", from->part[i].part, from->part[i].epoch,
                                                  from->part[i].token};
    write_rows(walk, &wire, from);
    write_saves(walk, &wire, from);
    write_books(walk, &wire, from);
    return commit_run(actor->q.commit, &wire.batch, ret);
}

/* What the worker makes of the answer: sometimes it does not hear it. */
static void hear(struct walk *walk, struct actor *actor, const struct model_answer *answer,
                 const struct commit_result *result)
{
    actor->is_frozen = answer->outcome == MODEL_OK && below(walk, 5) == 0;
    if (answer->outcome == MODEL_FENCED)
        for (uint32_t i = result->fenced_count; i-- > 0;)
            drop(actor, result->fenced[i]);
    if (actor->is_frozen || answer->outcome == MODEL_FENCED || answer->outcome == MODEL_LOST)
        return;
    actor->q.seq = actor->batch.seq;
    actor->booked += actor->batch.held;
    for (uint32_t i = 0; i < MODEL_JOBS; i++)
        actor->wip[i] = actor->batch.job[i].wip;
}

static void commit(struct walk *walk, struct actor *actor)
{
    struct commit_result result;
    struct model_answer answer;
    enum err rc;

    walk->step = actor->is_frozen ? "commit again" : "commit";
    if (!actor->is_frozen)
        actor->batch = make_batch(walk, actor);
    rc = send_batch(walk, actor, &actor->batch, &result);
    answer = model_commit(&walk->now, &actor->batch);
    expect(walk, rc, answer.outcome);
    expect_number(walk, "landed before", result.landed_before, answer.outcome == MODEL_BEFORE);
    expect_number(walk, "inserted", result.rows_inserted, answer.inserted);
    expect_number(walk, "duplicate", result.rows_duplicate, answer.duplicate);
    expect_number(walk, "fenced", result.fenced_count, answer.fenced);
    expect_number(walk, "late", result.checkpoints_late, answer.late);
    walk->seen.landed += answer.outcome == MODEL_OK;
    walk->seen.landed_before += answer.outcome == MODEL_BEFORE;
    walk->seen.fenced += answer.outcome == MODEL_FENCED;
    walk->seen.lost += answer.outcome == MODEL_LOST;
    walk->seen.duplicates += answer.duplicate;
    walk->seen.saved += answer.outcome == MODEL_OK ? actor->batch.saves : 0;
    walk->seen.taken_over += answer.taken_over;
    walk->seen.discarded += answer.discarded;
    walk->seen.late += answer.late;
    if (walk->said[0])
        return;
    actor->lost |= rc == ERR_LOST;
    hear(walk, actor, &answer, &result);
}

/* ---------------------------------------------------------------- the walk */

static void take_step(struct walk *walk, bool failovers)
{
    struct actor *actor = &walk->actor[below(walk, ACTORS)];
    uint32_t die = below(walk, 100);

    if (actor->index == NOBODY || (actor->lost && below(walk, 3) > 0))
        enlist(walk, actor);
    else if (die < 14)
        claim(walk, actor);
    else if (die < 20)
        renew(walk, actor);
    else if (die < 29)
        release(walk, actor);
    else if (die < 33)
        leave(walk, actor);
    else if (die < 39)
        bury(walk);
    else if (die < 42)
        fold(walk);
    else if (die < 49 && failovers)
        fail_over(walk);
    else
        commit(walk, actor);
}

/* The first line in which two texts differ. */
static void say_difference(struct walk *walk, const char *is, const char *predicted)
{
    size_t at = 0, line = 0;

    for (; is[at] && is[at] == predicted[at]; at++)
        if (is[at] == '\n')
            line = at + 1;
    if (is[at] != predicted[at])
        say(walk, "%s: is \"%.*s\", predicted \"%.*s\"; ", walk->step,
            (int)strcspn(is + line, "\n"), is + line, (int)strcspn(predicted + line, "\n"),
            predicted + line);
}

static void check(struct walk *walk)
{
    struct buffer predicted = {0};
    const char *faults = proof_faults(walk->db);
    char *is = proof_text(walk->db, "model", model_query);

    model_write(&walk->now, &predicted);
    say_difference(walk, is, predicted.data);
    if (faults[0])
        say(walk, "%s: %s", walk->step, faults);
    buffer_release(&predicted);
    free(is);
}

static void set_up(struct walk *walk)
{
    struct db_options options = pg_options();

    scene_clear(walk->db);
    pg_do(walk->db, "update mserve.partitions set epoch = 0");
    model_init(&walk->now);
    walk->job[0] = queue_job(walk->db, "job0", MODEL_LINES, true);
    walk->job[1] = queue_job(walk->db, "job1", MODEL_LINES, true);
    for (int i = 0; i < ACTORS; i++) {
        walk->actor[i].index = NOBODY;
        walk->actor[i].q.db = pg_connect();
        assert_int_equal(commit_open(&options, &walk->actor[i].q.commit), ERR_OK);
    }
    for (uint32_t i = 0; i < MODEL_JOBS; i++)
        walk->now.job[i].partition_first = walk->job[i].partition_first;
    enlist(walk, &walk->actor[0]);
}

const char *walk_run(struct db *db, const struct walk_options *options, struct walk_seen *ret_seen)
{
    static char said[sizeof(((struct walk *)NULL)->said) + 32];
    struct walk *walk = xcalloc(1, sizeof(*walk));

    walk->db = db;
    walk->random = options->seed;
    set_up(walk);
    said[0] = '\0';
    for (uint32_t i = 0; i < options->steps && !said[0]; i++) {
        take_step(walk, options->failovers);
        check(walk);
        if (walk->said[0])
            snprintf(said, sizeof(said), "step %u, %s", i, walk->said);
    }
    for (int i = 0; i < ACTORS; i++)
        queue_worker_close(&walk->actor[i].q);
    *ret_seen = walk->seen;
    free(walk);
    return said;
}
