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

/* False: the line has its row. */
static bool add_row(struct model *model, const struct model_row *row, int worker)
{
    struct model_job *job = &model->job[row->job];
    struct model_line *line = &job->line[row->line];

    if (line->done) {
        add_attempt(model, row->job, row->ns);
        return false;
    }
    *line = (struct model_line){true, worker, row->status, row->ns};
    job->count[row->status]++;
    job->input += row->input;
    job->output += row->output;
    job->rows += row->ns;
    model->rows += row->ns;
    return true;
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
        lose(model, i, batch->job[i].lost);
    }
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
    for (uint32_t i = 0; i < batch->rows; i++)
        answer.inserted += add_row(model, &batch->row[i], batch->worker);
    answer.duplicate = batch->rows - answer.inserted;
    for (uint32_t i = 0; i < batch->attempts; i++)
        add_attempt(model, batch->attempt[i].job, batch->attempt[i].ns);
    add_books(model, w, batch);
    w->seq = batch->seq;
    return answer;
}

void model_bury(struct model *model, int worker, int64_t held)
{
    struct model_worker *w = &model->worker[worker];
    int64_t end = max64(w->reported, held), wip = 0;

    if (!model_is_open(model, worker))
        return;
    for (uint32_t i = 0; i < MODEL_JOBS; i++) {
        wip += w->wip[i];
        model->job[i].lost += w->wip[i];
        w->wip[i] = 0;
    }
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

void model_write(const struct model *model, struct buffer *out)
{
    buffer_clear(out);
    buffer_printf(out,
                  "ledger held=%" PRId64 " rows=%" PRId64 " wip=%" PRId64 " shared=%" PRId64
                  " recompute=%" PRId64 " overhead=%" PRId64 " idle=%" PRId64 " lost=%" PRId64
                  "\nattempts n=%" PRId64 " ns=%" PRId64 "\n",
                  model->held, model->rows, model->wip, model->shared, model->recompute,
                  model->overhead, model->idle, model->lost, model->attempts, model->attempts_ns);
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
}

#define SUM(column)  "coalesce(sum(" column "), 0)"
#define BOTH(column) "j." column " + coalesce(d." column ", 0)"

const char
    model_query
        [] =
            "select (select format(E'ledger held=%s rows=%s wip=%s shared=%s recompute=%s "
            "overhead=%s "
            "idle=%s lost=%s\\n', " SUM("held_ns") ", " SUM("rows_ns") ", " SUM("wip_ns") ", " SUM("shared_ns") ", " SUM("recompute_ns") ", " SUM("overhead_ns") ", " SUM("idle_ns") ", " SUM(
                "lost_ns") ") from mserve.worker_ledger)"
                           " || (select format(E'attempts n=%s ns=%s\\n', count(*), " SUM(
                               "gpu_ns") ") "
                                         "from mserve.attempts)"
                                         " || (select string_agg(format(E'part %s epoch=%s "
                                         "owner=%s\\n', part, epoch, "
                                         "coalesce(w.name, '-')), '' order by part) from "
                                         "mserve.partitions p "
                                         "left join mserve.workers w on w.worker = p.owner)"
                                         " || coalesce((select string_agg(format(E'%s %s seq=%s "
                                         "booked=%s reported=%s wip=%s\\n', name, "
                                         "case when closed_at is null then 'open' else 'closed' "
                                         "end, ledger_seq, booked_ns, "
                                         "reported_ns, wip_ns), '' order by name) from "
                                         "mserve.workers), '')"
                                         " || coalesce((select string_agg(format(E'%s completed=%s "
                                         "failed=%s cancelled=%s expired=%s "
                                         "in=%s out=%s rows=%s shared=%s recompute=%s lost=%s\\n', "
                                         "idempotency_key, " BOTH("completed") ", " BOTH("failed") ", " BOTH("cancelled") ", " BOTH("expired") ", " BOTH("input_tokens") ", " BOTH("output_tokens") ", " BOTH("rows_ns") ", " BOTH(
                                             "shared_ns") ", " BOTH("recompute"
                                                                    "_ns") ","
                                                                           " " BOTH(
                                                                               "lost_ns") "), '' "
                                                                                          "order "
                                                                                          "by "
                                                                                          "idempote"
                                                                                          "ncy_key)"
                                                                                          " from "
                                                                                          "mserve."
                                                                                          "jobs j "
                                                                                          "left "
                                                                                          "join "
                                                                                          "(select "
                                                                                          "job, "
                                                                                          "sum("
                                                                                          "complete"
                                                                                          "d) "
                                                                                          "complete"
                                                                                          "d, "
                                                                                          "sum("
                                                                                          "failed) "
                                                                                          "failed, "
                                                                                          "sum("
                                                                                          "cancelle"
                                                                                          "d) "
                                                                                          "cancelle"
                                                                                          "d, "
                                                                                          "sum("
                                                                                          "expired)"
                                                                                          " expired"
                                                                                          ", "
                                                                                          "sum("
                                                                                          "input_"
                                                                                          "tokens) "
                                                                                          "input_"
                                                                                          "tokens, "
                                                                                          "sum("
                                                                                          "output_"
                                                                                          "tokens) "
                                                                                          "output_"
                                                                                          "tokens, "
                                                                                          "sum("
                                                                                          "rows_ns)"
                                                                                          " rows_"
                                                                                          "ns, "
                                                                                          "sum("
                                                                                          "shared_"
                                                                                          "ns) "
                                                                                          "shared_"
                                                                                          "ns, "
                                                                                          "sum("
                                                                                          "recomput"
                                                                                          "e_ns) "
                                                                                          "recomput"
                                                                                          "e_ns, "
                                                                                          "sum("
                                                                                          "lost_ns)"
                                                                                          " lost_"
                                                                                          "ns "
                                                                                          "from "
                                                                                          "mserve."
                                                                                          "job_"
                                                                                          "deltas "
                                                                                          "group "
                                                                                          "by job) "
                                                                                          "d using "
                                                                                          "(job)), "
                                                                                          "'')"
                                                                                          " || "
                                                                                          "coalesce"
                                                                                          "(("
                                                                                          "select "
                                                                                          "string_"
                                                                                          "agg("
                                                                                          "format("
                                                                                          "E'row "
                                                                                          "%s %s "
                                                                                          "%s %s "
                                                                                          "%s\\n', "
                                                                                          "idempote"
                                                                                          "ncy_key,"
                                                                                          " line, "
                                                                                          "status, "
                                                                                          "gpu_ns, "
                                                                                          "name), "
                                                                                          "'' "
                                                                                          "order "
                                                                                          "by "
                                                                                          "idempote"
                                                                                          "ncy_key,"
                                                                                          " line) "
                                                                                          "from "
                                                                                          "mserve."
                                                                                          "results "
                                                                                          "join "
                                                                                          "mserve."
                                                                                          "jobs "
                                                                                          "using "
                                                                                          "(job) "
                                                                                          "left "
                                                                                          "join "
                                                                                          "mserve."
                                                                                          "workers "
                                                                                          "using "
                                                                                          "(worker)"
                                                                                          "), '')";
