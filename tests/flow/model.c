/* model.c: what the tables must hold, by plain arithmetic. */
#include "tests/flow/model.h"

#include <inttypes.h>
#include <string.h>

static const char *const status_names[] = {"completed", "failed", "cancelled", "expired"};

void model_init(struct model *model)
{
    memset(model, 0, sizeof(*model));
    for (int i = 0; i < QUEUE_PARTITIONS; i++)
        model->part[i].owner = NOBODY;
}

bool model_is_open(const struct model *model, int worker)
{
    return model->worker[worker].known && model->worker[worker].open;
}

void model_register(struct model *model, int worker)
{
    model->worker[worker] = (struct model_worker){.known = true, .open = true};
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

enum model_outcome model_renew(struct model *model, int worker, int64_t seq, int64_t reported)
{
    struct model_worker *w = &model->worker[worker];

    if (!model_is_open(model, worker) || w->seq < seq)
        return MODEL_LOST;
    w->reported = max64(w->reported, reported);
    return MODEL_OK;
}

enum model_outcome model_release(struct model *model, int worker, int32_t part)
{
    if (!model_is_open(model, worker))
        return MODEL_LOST;
    if (model->part[part].owner == worker)
        model->part[part].owner = NOBODY;
    return MODEL_OK;
}

enum model_outcome model_claim(struct model *model, int worker, uint32_t wanted,
                               uint32_t first_claim, int32_t *ret, uint32_t *ret_count)
{
    *ret_count = 0;
    if (!model_is_open(model, worker))
        return MODEL_LOST;
    for (int32_t i = 0; i < QUEUE_PARTITIONS && *ret_count < wanted; i++) {
        struct model_partition *part = &model->part[i];

        if (part->owner != NOBODY)
            continue;
        *part = (struct model_partition){worker, part->epoch + 1, first_claim + *ret_count};
        ret[(*ret_count)++] = i;
    }
    return MODEL_OK;
}

static uint32_t count_fenced(const struct model *model, const struct model_batch *batch)
{
    uint32_t fenced = 0;

    for (uint32_t i = 0; i < batch->parts; i++) {
        const struct model_partition *part = &model->part[batch->part[i].part];

        fenced += part->owner != batch->worker || part->claim != batch->part[i].claim;
    }
    return fenced;
}

static void lose(struct model *model, uint32_t job, int64_t ns)
{
    model->lost += ns;
    model->job[job].lost += ns;
}

static void add_attempt(struct model *model, uint32_t job, int64_t ns)
{
    model->attempts++;
    model->attempts_ns += ns;
    lose(model, job, ns);
}

/* Deletes the checkpoint of a line: what it held, -1 when there is none. */
static int64_t take_over(struct model *model, struct model_line *line)
{
    if (!line->saved.there)
        return -1;
    line->saved.there = false;
    model->taken += line->saved.ns;
    return line->saved.ns;
}

/* False: the line has its row. */
static bool add_row(struct model *model, const struct model_row *row, int worker,
                    struct model_answer *answer)
{
    struct model_job *job = &model->job[row->job];
    struct model_line *line = &job->line[row->line];
    int64_t old = take_over(model, line), ns = row->ns;
    bool keeps_cost = row->status == ROW_COMPLETED || row->status == ROW_FAILED;

    answer->taken_over += old >= 0;
    if (line->done) {
        add_attempt(model, row->job, ns + max64(old, 0));
        return false;
    }
    if (keeps_cost)
        ns += max64(old, 0);
    else if (old >= 0)
        add_attempt(model, row->job, old);
    *line = (struct model_line){.done = true, .worker = worker, .status = row->status, .ns = ns};
    job->count[row->status]++;
    job->input += row->input;
    job->output += row->output;
    job->rows += ns;
    model->rows += ns;
    return true;
}

static void add_save(struct model *model, const struct model_save *save, int worker,
                     struct model_answer *answer)
{
    struct model_line *line = &model->job[save->job].line[save->line];
    struct model_saved next = {true, worker, save->attempt, save->tokens, save->ns, 0, 0};
    const struct model_saved *old = &line->saved;

    if (line->done) {
        answer->late++;
        add_attempt(model, save->job, save->ns);
        return;
    }
    if (old->there) {
        bool same = old->worker == worker && old->attempt == save->attempt;

        next.ns += old->ns;
        next.before_tokens = same ? old->before_tokens : old->tokens;
        next.before_ns = same ? old->before_ns : old->ns;
        model->taken += old->ns;
        answer->taken_over += old->worker != worker;
    }
    model->handed += next.ns;
    line->saved = next;
}

static void discard(struct model *model, uint32_t job, uint32_t line, int worker,
                    struct model_answer *answer)
{
    struct model_line *at = &model->job[job].line[line];
    int64_t old = take_over(model, at);

    if (old < 0)
        return;
    at->told[worker] |= (uint8_t)(1u << at->saved.attempt);
    answer->discarded++;
    add_attempt(model, job, old);
}

static void add_books(struct model *model, struct model_worker *w, const struct model_batch *batch)
{
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        model->wip += batch->job[i].wip - w->wip[i];
        w->wip[i] = batch->job[i].wip;
        model->shared += batch->job[i].shared;
        model->job[i].shared += batch->job[i].shared;
        model->recompute += batch->job[i].recompute;
        model->job[i].recompute += batch->job[i].recompute;
    }
    model->lost += batch->lost;
    model->overhead += batch->overhead;
    model->idle += batch->idle;
    model->held += batch->held;
    w->booked += batch->held;
    w->reported = max64(w->reported, w->booked);
}

struct model_answer model_commit(struct model *model, const struct model_batch *batch)
{
    struct model_worker *w = &model->worker[batch->worker];
    struct model_answer answer = {.outcome = MODEL_LOST};

    if (!model_is_open(model, batch->worker))
        return answer;
    if (w->seq == batch->seq)
        answer.outcome = MODEL_BEFORE;
    if (w->seq != batch->seq - 1)
        return answer;
    answer.fenced = count_fenced(model, batch);
    answer.outcome = answer.fenced ? MODEL_FENCED : MODEL_OK;
    if (answer.fenced)
        return answer;
    for (uint32_t i = 0; i < batch->discards; i++)
        discard(model, batch->discard[i].job, batch->discard[i].line, batch->worker, &answer);
    for (uint32_t i = 0; i < batch->rows; i++)
        answer.inserted += add_row(model, &batch->row[i], batch->worker, &answer);
    answer.duplicate = batch->rows - answer.inserted;
    for (uint32_t i = 0; i < batch->saves; i++)
        add_save(model, &batch->save[i], batch->worker, &answer);
    for (uint32_t i = 0; i < batch->attempts; i++) {
        add_attempt(model, batch->attempt[i].job, batch->attempt[i].ns);
        model->job[batch->attempt[i].job].line[batch->attempt[i].line].told[batch->worker] |= 1u
                                                                                              << 1;
        model->kept_ns += batch->attempt[i].kept_ns;
    }
    add_books(model, w, batch);
    w->seq = batch->seq;
    return answer;
}

/* A row for each checkpoint that the worker wrote in a partition that it holds, where it has not
 * told of that attempt itself. */
static void keep_saved(struct model *model, int worker)
{
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        const struct model_job *job = &model->job[i];

        for (uint32_t n = 0; n < MODEL_LINES; n++) {
            const struct model_saved *saved = &job->line[n].saved;
            uint32_t part = (job->partition_first + n / QUEUE_CHUNK_LINES) % QUEUE_PARTITIONS;

            if (!saved->there || saved->worker != worker || model->part[part].owner != worker ||
                job->line[n].told[worker] & (1u << saved->attempt))
                continue;
            model->attempts++;
            model->kept_ns += saved->ns - saved->before_ns;
            model->kept_tokens += max64(saved->tokens - saved->before_tokens, 0);
        }
    }
}

void model_bury(struct model *model, int worker, int64_t held)
{
    struct model_worker *w = &model->worker[worker];
    int64_t end = max64(w->reported, held), wip = 0;

    if (!model_is_open(model, worker))
        return;
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        wip += w->wip[i];
        model->attempts += w->wip[i] > 0;
        model->attempts_ns += w->wip[i];
        model->job[i].lost += w->wip[i];
        w->wip[i] = 0;
    }
    keep_saved(model, worker);
    w->seq += end > w->booked || wip > 0;
    model->held += end - w->booked;
    model->lost += end - w->booked + wip;
    model->wip -= wip;
    w->booked = w->reported = end;
    w->open = false;
    for (int i = 0; i < QUEUE_PARTITIONS; i++)
        if (model->part[i].owner == worker)
            model->part[i].owner = NOBODY;
}

static void write_jobs(const struct model *model, struct buffer *out)
{
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        const struct model_job *job = &model->job[i];

        buffer_printf(out, "job%u", i);
        for (uint32_t status = 0; status < 4; status++)
            buffer_printf(out, " %s=%" PRId64, status_names[status], job->count[status]);
        buffer_printf(out,
                      " in=%" PRId64 " out=%" PRId64 " rows=%" PRId64 " shared=%" PRId64
                      " recompute=%" PRId64 " lost=%" PRId64 "\n",
                      job->input, job->output, job->rows, job->shared, job->recompute, job->lost);
    }
    for (uint32_t i = 0; i < MODEL_JOBS; i++)
        for (uint32_t line = 0; line < MODEL_LINES; line++)
            if (model->job[i].line[line].done)
                buffer_printf(out, "row job%u %u %s %" PRId64 " w%02d\n", i, line,
                              status_names[model->job[i].line[line].status],
                              model->job[i].line[line].ns, model->job[i].line[line].worker);
}

static void write_saved(const struct model *model, struct buffer *out)
{
    for (uint32_t i = 0; i < MODEL_JOBS; i++)
        for (uint32_t line = 0; line < MODEL_LINES; line++) {
            const struct model_saved *saved = &model->job[i].line[line].saved;

            if (saved->there)
                buffer_printf(out,
                              "saved job%u %u attempt=%u tokens=%" PRId64 " ns=%" PRId64
                              " before=%" PRId64 ",%" PRId64 " w%02d\n",
                              i, line, saved->attempt, saved->tokens, saved->ns,
                              saved->before_tokens, saved->before_ns, saved->worker);
        }
}

void model_write(const struct model *model, struct buffer *out)
{
    buffer_clear(out);
    buffer_printf(out,
                  "ledger held=%" PRId64 " taken=%" PRId64 " rows=%" PRId64 " handed=%" PRId64
                  " wip=%" PRId64 " shared=%" PRId64 " recompute=%" PRId64 " overhead=%" PRId64
                  " idle=%" PRId64 " lost=%" PRId64 "\n",
                  model->held, model->taken, model->rows, model->handed, model->wip, model->shared,
                  model->recompute, model->overhead, model->idle, model->lost);
    buffer_printf(out,
                  "attempts n=%" PRId64 " ns=%" PRId64 " kept=%" PRId64 " tokens=%" PRId64 "\n",
                  model->attempts, model->attempts_ns, model->kept_ns, model->kept_tokens);
    for (int i = 0; i < QUEUE_PARTITIONS; i++) {
        buffer_printf(out, "part %d epoch=%" PRId64 " owner=", i, model->part[i].epoch);
        if (model->part[i].owner == NOBODY)
            buffer_add_text(out, "-\n");
        else
            buffer_printf(out, "w%02d\n", model->part[i].owner);
    }
    for (int i = 0; i < MODEL_WORKERS; i++) {
        const struct model_worker *w = &model->worker[i];

        if (w->known)
            buffer_printf(out,
                          "w%02d %s seq=%" PRId64 " booked=%" PRId64 " reported=%" PRId64
                          " wip=%" PRId64 "\n",
                          i, w->open ? "open" : "closed", w->seq, w->booked, w->reported,
                          w->wip[0] + w->wip[1]);
    }
    write_jobs(model, out);
    write_saved(model, out);
}

#define SUM(column)  "coalesce(sum(" column "), 0)"
#define BOTH(column) "j." column " + coalesce(d." column ", 0)"

/* clang-format off */
const char model_query[] =
    "select (select format(E'ledger held=%s taken=%s rows=%s handed=%s wip=%s shared=%s "
    "recompute=%s overhead=%s idle=%s lost=%s\\n', " SUM("held_ns") ", " SUM("taken_over_ns") ", "
    SUM("rows_ns") ", " SUM("handed_over_ns") ", " SUM("wip_ns") ", " SUM("shared_ns") ", "
    SUM("recompute_ns") ", " SUM("overhead_ns") ", " SUM("idle_ns") ", " SUM("lost_ns")
    ") from mserve.worker_ledger)"
    " || (select format(E'attempts n=%s ns=%s kept=%s tokens=%s\\n', count(*), " SUM("gpu_ns") ", "
    SUM("kept_ns") ", " SUM("tokens_kept") ") from mserve.attempts)"
    " || (select string_agg(format(E'part %s epoch=%s owner=%s\\n', part, epoch, "
    "coalesce(w.name, '-')), '' order by part) from mserve.partitions p "
    "left join mserve.workers w on w.worker = p.owner)"
    " || coalesce((select string_agg(format(E'%s %s seq=%s booked=%s reported=%s wip=%s\\n', name, "
    "case when closed_at is null then 'open' else 'closed' end, ledger_seq, booked_ns, "
    "reported_ns, wip_ns), '' order by name) from mserve.workers), '')"
    " || coalesce((select string_agg(format(E'%s completed=%s failed=%s cancelled=%s expired=%s "
    "in=%s out=%s rows=%s shared=%s recompute=%s lost=%s\\n', idempotency_key, "
    BOTH("completed") ", " BOTH("failed") ", " BOTH("cancelled") ", " BOTH("expired") ", "
    BOTH("input_tokens") ", " BOTH("output_tokens") ", " BOTH("rows_ns") ", " BOTH("shared_ns") ", "
    BOTH("recompute_ns") ", " BOTH("lost_ns") "), '' order by idempotency_key) "
    "from mserve.jobs j left join (select job, sum(completed) completed, sum(failed) failed, "
    "sum(cancelled) cancelled, sum(expired) expired, sum(input_tokens) input_tokens, "
    "sum(output_tokens) output_tokens, sum(rows_ns) rows_ns, sum(shared_ns) shared_ns, "
    "sum(recompute_ns) recompute_ns, sum(lost_ns) lost_ns from mserve.job_deltas group by job) d "
    "using (job)), '')"
    " || coalesce((select string_agg(format(E'row %s %s %s %s %s\\n', idempotency_key, line, status, "
    "gpu_ns, name), '' order by idempotency_key, line) from mserve.results "
    "join mserve.jobs using (job) left join mserve.workers using (worker)), '')"
    " || coalesce((select string_agg(format(E'saved %s %s attempt=%s tokens=%s ns=%s before=%s,%s "
    "%s\\n', idempotency_key, line, attempt, tokens, gpu_ns, before_tokens, before_ns, name), '' "
    "order by idempotency_key, line) from mserve.checkpoints "
    "join mserve.jobs using (job) left join mserve.workers using (worker)), '')";
/* clang-format on */
