/* worker.c: start, end, and what the other threads tell the control loop. */
#include "consumer/worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "config/clock.h"
#include "config/log.h"
#include "consumer/database.h"
#include "consumer/worker_inside.h"
#include "kernels/text/chat.h"

enum { ASIDE_S = 15, ENOUGH_MIN = 2048 };

/* -------------------------------------------------------------------------------- from others ---- */

void worker_tell(struct worker *worker, unsigned note)
{
    unsigned before = atomic_fetch_or_explicit(&worker->notes, note, memory_order_acq_rel);

    if (!(before & note))
        uv_async_send(&worker->wake);
}

static void on_opened(void *context, enum err err)
{
    struct worker *worker = context;

    atomic_store(&worker->opened, (int)err);
    worker_tell(worker, err ? NOTE_NOT_OPENED : NOTE_OPENED);
}

static void on_device_failed(void *context, enum err err)
{
    (void)err;
    worker_tell(context, NOTE_DEVICE_FAILED);
}

bool worker_is_hungry(struct worker *worker)
{
    return atomic_load_explicit(&worker->gauges.unread_lines, memory_order_relaxed) +
               atomic_load_explicit(&worker->gauges.ready_requests, memory_order_relaxed) <
           chooser_enough(worker->chooser);
}

static void on_room(void *context)
{
    struct worker *worker = context;

    intake_ring(worker->intake);
    if (worker_is_hungry(worker))
        worker_tell(worker, NOTE_HUNGRY);
}

static void on_chunk_read(void *context)
{
    if (worker_is_hungry(context))
        worker_tell(context, NOTE_HUNGRY);
}

static void on_halted(void *context, unsigned stop)
{
    struct worker *worker = context;

    atomic_store_explicit(&worker->halted, stop, memory_order_release);
    worker_tell(worker, NOTE_HALTED);
}

static void on_taken(void *context)
{
    const struct worker *worker = context;

    mailbox_ring(device_loop_mailbox(worker->device));
}

static void on_through(void *context, unsigned stop)
{
    struct worker *worker = context;

    atomic_store_explicit(&worker->through, stop, memory_order_release);
    worker_tell(worker, NOTE_THROUGH);
}

static void on_lost(void *context)
{
    worker_tell(context, NOTE_LOST);
}

static void on_fenced(void *context)
{
    worker_tell(context, NOTE_FENCED);
}

static void on_commit_failed(void *context, enum err err)
{
    struct worker *worker = context;

    atomic_store(&worker->failure, (int)err);
    worker_tell(worker, NOTE_COMMIT_FAILED);
}

void worker_note_change(struct worker *worker)
{
    atomic_fetch_add_explicit(&worker->gauges.changes, 1, memory_order_release);
    mailbox_ring(device_loop_mailbox(worker->device));
    intake_ring(worker->intake);
}

void worker_stop_loop(struct worker *worker, enum err err)
{
    worker->phase = LEAVING;
    worker->end = err;
    uv_stop(&worker->loop);
}

/* --------------------------------------------------------------------------------- the parts - ---- */

static void take_names(struct worker *worker, const struct worker_options *options)
{
    const char *name =
        options->name && options->name[0] ? options->name : options->settings->worker.name;

    if (gethostname(worker->host, sizeof worker->host - 1) != 0)
        snprintf(worker->host, sizeof worker->host, "localhost");
    snprintf(worker->name, sizeof worker->name, "%s", name[0] ? name : worker->host);
    snprintf(worker->topic, sizeof worker->topic, "%s.requests.%s",
             options->settings->kafka.topic_prefix, options->tier->name);
    snprintf(worker->commit_name, sizeof worker->commit_name, "mserve-worker %s commit",
             worker->name);
    snprintf(worker->group, sizeof worker->group, "%s.workers.%s",
             options->settings->kafka.topic_prefix, options->tier->name);
}

static enum engine_kv kv_of(const char *name)
{
    return strcmp(name, "f32") == 0   ? ENGINE_KV_F32
           : strcmp(name, "fp8") == 0 ? ENGINE_KV_FP8
                                      : ENGINE_KV_HALF;
}

static enum engine_weights weights_of(const char *name)
{
    return strcmp(name, "bf16") == 0   ? ENGINE_WEIGHTS_BF16
           : strcmp(name, "fp8") == 0  ? ENGINE_WEIGHTS_FP8
           : strcmp(name, "int8") == 0 ? ENGINE_WEIGHTS_INT8
                                       : ENGINE_WEIGHTS_AUTO;
}

struct engine_options worker_engine_options(const struct settings *settings,
                                            const struct settings_tier *tier, const char *gpu,
                                            uint64_t kv_tokens)
{
    /* Beyond what one step can begin they wait better here, where jobs take turns. */
    uint32_t waiting =
        tier->waiting_max < tier->sequences_max ? tier->waiting_max : tier->sequences_max;

    return (struct engine_options){
        .backend = tier->backend,
        .model_path = tier->model,
        .model_sha256 = tier->sha256[0] ? tier->sha256 : NULL,
        .sequences_max = tier->sequences_max,
        .waiting_max = waiting,
        .rows_max = tier->rows_max,
        .context_max = tier->context_max,
        .kv_tokens = kv_tokens > 0 ? kv_tokens : tier->kv_tokens,
        .threads = tier->threads ? tier->threads : settings->worker.threads,
        .gpu = gpu,
        .kv = kv_of(tier->kv_type),
        .weights = weights_of(tier->weights),
        .sim = {.load_ns = tier->sim.load_ns,
                .fixed_ns = tier->sim.fixed_ns,
                .row_ns = tier->sim.row_ns,
                .kv_ns = tier->sim.kv_ns,
                .chunk_kv_ns = tier->sim.chunk_kv_ns,
                .head_ns = tier->sim.head_ns,
                .pace = tier->sim.pace,
                .eos_per_million = tier->sim.eos_per_million,
                .abort_token = tier->sim.abort_token,
                .hang_token = tier->sim.hang_token,
                .eat_token = tier->sim.eat_token,
                .fail_token = tier->sim.fail_token},
    };
}

static enum err start_committer(struct worker *worker)
{
    struct committer_options options = {
        .db = database_options(worker->settings, worker->commit_name),
        .gauges = &worker->gauges,
        .recorder = worker->recorder,
        .on_taken = on_taken,
        .on_stopped = on_through,
        .on_lost = on_lost,
        .on_fenced = on_fenced,
        .on_failed = on_commit_failed,
        .context = worker,
    };

    return committer_start(&options, &worker->committer);
}

/* The UUID of its card; NULL: it has none. */
static const char *worker_gpu(const struct worker *worker)
{
    return worker->placement ? worker->placement->card.uuid : NULL;
}

static void on_sick(void *context)
{
    worker_tell(context, NOTE_SICK);
}

static enum err watch_card(struct worker *worker)
{
    struct card_watch_options options = {
        .backend = worker->tier->backend, .on_sick = on_sick, .context = worker};

    if (!worker->placement)
        return ERR_OK;
    options.card = &worker->placement->card;
    return card_watch_start(&options, &worker->card_watch);
}

static enum err start_device(struct worker *worker)
{
    const struct settings_worker *settings = &worker->settings->worker;
    struct device_loop_options options = {
        .engine = worker_engine_options(worker->settings, worker->tier, worker_gpu(worker),
                                        worker->kv_tokens),
        .gauges = &worker->gauges,
        .recorder = worker->recorder,
        .suspect_wait_ns = settings->suspect_wait_ms * (uint64_t)CLOCK_NS_PER_MS,
        .batches = committer_mailbox(worker->committer),
        .commit_rows = settings->commit_rows,
        .commit_interval_ns = settings->commit_interval_ms * (uint64_t)CLOCK_NS_PER_MS,
        .checkpoint_interval_ns = settings->checkpoint_interval_ms * (uint64_t)CLOCK_NS_PER_MS,
        .ledger_interval_ns = settings->renew_ms * (uint64_t)CLOCK_NS_PER_MS,
        .results_max = 4 * settings->commit_rows,
        .request_time_limit_ns = worker->tier->request_time_limit_ms * (uint64_t)CLOCK_NS_PER_MS,
        .on_opened = on_opened,
        .on_failed = on_device_failed,
        .on_room = on_room,
        .context = worker,
    };

    return device_loop_start(&options, &worker->device);
}

/* The tier's setting goes before what the model file names. */
static const struct chat_format *chat_format(const struct worker *worker)
{
    const char *name = worker->tier->chat_format;

    if (!name[0])
        name = engine_model(device_loop_engine(worker->device))->chat_format;
    return chat_format_find((struct slice){name, strlen(name)});
}

static enum err start_intake(struct worker *worker)
{
    const struct engine *engine = device_loop_engine(worker->device);
    struct intake_options options = {
        .settings = worker->settings,
        .topic = worker->topic,
        .group = worker->group,
        .model = engine_model(engine),
        .prepare = {.tokenizer = engine_tokenizer(engine),
                    .chat = chat_format(worker),
                    .context_max = engine_model(engine)->context_max,
                    .max_tokens_default = worker->tier->max_tokens_default},
        .gauges = &worker->gauges,
        .recorder = worker->recorder,
        .tasks = device_loop_mailbox(worker->device),
        .requests_max = worker->settings->worker.requests_max,
        .bytes_max = worker->settings->worker.fetch_bytes_max,
        .on_chunk_read = on_chunk_read,
        .on_stopped = on_halted,
        .context = worker,
    };

    return intake_start(&options, &worker->intake);
}

/* ----------------------------------------------------------------------------------- the loop ---- */

static void welcome_home(struct worker *worker)
{
    uint64_t until_ns = clock_mono_ns() + ASIDE_S * (uint64_t)CLOCK_NS_PER_S;
    struct mail_list arrived = mailbox_take(&worker->home);
    struct mail *mail;

    while ((mail = mail_list_next(&arrived)))
        holdings_home(worker->holdings, (struct claim_chunk *)mail, until_ns);
    holdings_forget_dropped(worker->holdings);
}

static void on_home(uv_poll_t *poll, int status, int events)
{
    struct worker *worker = poll->data;
    uint64_t count;

    (void)status;
    (void)events;
    if (read(worker->home_fd, &count, sizeof count) < 0)
        return;
    welcome_home(worker);
}

static void after_opened(struct worker *worker)
{
    const struct engine_model *model = engine_model(device_loop_engine(worker->device));
    enum err err = start_intake(worker);

    if (err) {
        worker_stop_loop(worker, err);
        return;
    }
    log_info("model.loaded", "model=\"%s\" numerics=%s context=%u", model->name,
             model->numerics_text, model->context_max);
    committer_set_model(worker->committer, model);
    worker->phase = REGISTERING;
    worker_register(worker);
}

/* The answer to a stop, of intake or of the commit thread, is the one that this phase waits for. */
static bool is_awaited(const struct worker *worker, const atomic_uint *answer)
{
    return (worker->phase == LOSING || worker->phase == DRAINING) &&
           atomic_load_explicit(answer, memory_order_acquire) == worker->stop;
}

static void on_wake(uv_async_t *async)
{
    struct worker *worker = async->data;
    unsigned notes = atomic_exchange_explicit(&worker->notes, 0, memory_order_acq_rel);

    welcome_home(worker);
    if (notes & NOTE_NOT_OPENED)
        worker_stop_loop(worker, (enum err)atomic_load(&worker->opened));
    if (notes & NOTE_OPENED)
        after_opened(worker);
    if (notes & NOTE_LOST)
        worker_lose(worker);
    if (notes & NOTE_DEVICE_FAILED)
        worker_drain_off_device(worker, DRAIN_FAILED);
    if (notes & NOTE_SICK)
        worker_leave_sick_card(worker);
    if (notes & NOTE_COMMIT_FAILED)
        worker_leave(worker, "error", (enum err)atomic_load(&worker->failure));
    if (notes & NOTE_SIGNAL)
        worker_drain_within(worker, WORKER_NOT_TOLD, DRAIN_SIGNAL);
    if (notes & NOTE_OPERATOR)
        worker_drain_within(worker, WORKER_NOT_TOLD, DRAIN_OPERATOR);
    if (notes & NOTE_SIGNAL_AGAIN)
        worker_drain_at_once(worker);
    if (notes & NOTE_HALTED && is_awaited(worker, &worker->halted))
        worker_drain_halted(worker);
    if (notes & NOTE_THROUGH && is_awaited(worker, &worker->through))
        worker_after_stop(worker);
    if (notes & NOTE_FENCED)
        worker_note_change(worker);
    if (notes & NOTE_HUNGRY && worker->phase == WORKING && worker_connected(worker))
        worker_choose(worker, clock_mono_ns());
}

/* --------------------------------------------------------------------------------- start, end ---- */

/* All handles of the loop; they are closed in close_loop(). */
static enum err open_loop(struct worker *worker)
{
    if (uv_loop_init(&worker->loop) != 0)
        return fail(ERR_MEMORY, "the event loop could not be made");
    uv_async_init(&worker->loop, &worker->wake, on_wake);
    uv_timer_init(&worker->loop, &worker->beat);
    uv_timer_init(&worker->loop, &worker->renew);
    uv_timer_init(&worker->loop, &worker->retry);
    worker->home_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    mailbox_init(&worker->home, worker->home_fd);
    uv_poll_init(&worker->loop, &worker->homecoming, worker->home_fd);
    uv_poll_start(&worker->homecoming, UV_READABLE, on_home);
    worker->wake.data = worker->beat.data = worker->renew.data = worker->retry.data =
        worker->homecoming.data = worker;
    return ERR_OK;
}

static void close_loop(struct worker *worker)
{
    notices_close(worker->notices);
    uv_close((uv_handle_t *)&worker->wake, NULL);
    uv_close((uv_handle_t *)&worker->beat, NULL);
    uv_close((uv_handle_t *)&worker->renew, NULL);
    uv_close((uv_handle_t *)&worker->retry, NULL);
    uv_close((uv_handle_t *)&worker->homecoming, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    uv_loop_close(&worker->loop);
    mailbox_release(&worker->home);
    close(worker->home_fd);
}

static uint32_t enough_of(const struct worker *worker)
{
    uint32_t enough = 2 * worker->tier->sequences_max;

    if (enough < ENOUGH_MIN)
        enough = ENOUGH_MIN;
    return enough < worker->settings->worker.requests_max ? enough
                                                          : worker->settings->worker.requests_max;
}

static enum err start(struct worker *worker)
{
    struct db_options options = database_options(worker->settings, "mserve-worker control");
    struct notices_options notices = {.settings = &worker->settings->worker,
                                      .loop = &worker->loop,
                                      .on_notice = worker_on_notice,
                                      .context = worker};
    enum err err = db_open(&options, &worker->db);

    if (!err)
        err = notices_open(&notices, &worker->notices);
    if (!err)
        err = start_committer(worker);
    return err ? err : start_device(worker);
}

/* The threads ring one another to their end: all of them end before anything is freed. */
static void stop(struct worker *worker)
{
    worker_health_stop(worker->health);
    card_watch_stop(worker->card_watch);
    worker->card_watch = NULL;
    intake_stop(worker->intake);
    device_loop_stop(worker->device);
    committer_stop(worker->committer);
    intake_free(worker->intake);
    device_loop_free(worker->device);
    committer_free(worker->committer);
    db_close(worker->db);
    welcome_home(worker);
    chooser_free(worker->chooser);
    holdings_free(worker->holdings);
}

enum err worker_run(const struct worker_options *options)
{
    struct worker *worker = xcalloc(1, sizeof *worker);
    enum err err;

    worker->settings = options->settings;
    worker->tier = options->tier;
    worker->recorder = options->recorder;
    worker->placement =
        options->placement && options->placement->has_card ? options->placement : NULL;
    worker->kv_tokens = options->kv_tokens;
    take_names(worker, options);
    err = open_loop(worker);
    if (err)
        goto done;
    worker_catch_signals(worker); /* what comes from now on is heard when the loop runs */
    worker->holdings = holdings_new(worker->topic, &worker->home);
    worker->chooser = chooser_new(worker->topic, enough_of(worker));
    err = watch_card(worker);
    if (!err)
        err = worker_health_open(worker, &worker->health);
    if (!err)
        err = start(worker);
    if (!err) {
        uv_run(&worker->loop, UV_RUN_DEFAULT);
        err = worker->end;
    }
    stop(worker);
    worker_ignore_signals();
    close_loop(worker);
    worker_health_free(worker->health);
done:
    free(worker);
    return err;
}
