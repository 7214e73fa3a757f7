/* crew.c: the plan, what each member's settings are, and the process above them. */
#include "consumer/crew.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/log.h"
#include "consumer/worker.h"
#include "kernels/engine.h"
#include "kernels/share.h"

/* What the driver takes of a card for each process: an estimate that no interface gives before. */
#define CONTEXT_BYTES (512ull << 20)

/* A context of no stated length shrinks with the pool, down to this. */
enum { PROBE_TOKENS = 1 << 20, CONTEXT_MIN = 4096 };

/* ------------------------------------------------------------------------------------ the plan ---- */

/* What the process apart finds out. */
struct planning {
    const struct crew *crew;
    enum err err;
    uint64_t free_bytes;
    struct engine_plan plan[SETTINGS_TIERS_MAX];
};

/* A pool of a stated size does not depend on the card; what a token takes follows from it. */
static void plan_apart(void *context)
{
    struct planning *planning = context;
    const struct crew *crew = planning->crew;

    const char *backend = NULL;

    for (uint32_t i = 0; i < crew->count && !planning->err; i++) {
        const struct settings_tier *tier = crew->tier[i];
        struct engine_options options =
            worker_engine_options(crew->settings, tier, crew->placement->card.uuid, 0);

        if (!gpu_is_backend(tier->backend))
            continue;
        backend = tier->backend;
        if (options.kv_tokens == 0)
            options.kv_tokens =
                options.context_max > PROBE_TOKENS ? options.context_max : PROBE_TOKENS;
        planning->err = engine_plan(&options, &planning->plan[i]);
    }
    if (!planning->err)
        planning->free_bytes = gpu_memory_free(backend, crew->placement->card.uuid) + CONTEXT_BYTES;
}

static struct share_part part_of(const struct settings_tier *tier, const struct engine_plan *plan)
{
    uint64_t context = (plan->context_max + SHARE_KV_BLOCK - 1) / SHARE_KV_BLOCK * SHARE_KV_BLOCK;
    bool stated = tier->context_max > 0 || context < CONTEXT_MIN;

    return (struct share_part){
        .name = tier->name,
        .weight_bytes = plan->weight_bytes,
        .activation_bytes = plan->activation_bytes,
        .context_bytes = CONTEXT_BYTES,
        .kv_token_bytes = plan->kv_tokens > 0 ? plan->kv_bytes / plan->kv_tokens : 0,
        .kv_tokens = tier->kv_tokens,
        .kv_tokens_min = stated ? context : CONTEXT_MIN,
        .kv_tokens_max = context * tier->sequences_max,
    };
}

static void log_lines(bool fits, const char *text)
{
    char line[512], quoted[1024];

    while (text[0]) {
        size_t len = strcspn(text, "\n");

        snprintf(line, sizeof(line), "%.*s", (int)len, text);
        if (fits)
            log_info("gpu.plan", "msg=%s", log_quote(quoted, sizeof(quoted), line));
        else
            log_error("gpu.plan", "msg=%s", log_quote(quoted, sizeof(quoted), line));
        text += len + (text[len] == '\n');
    }
}

static enum err share(struct crew *crew, const struct planning *planning)
{
    const uint64_t reserve = crew->settings->worker.gpu_reserve;
    const uint64_t bytes = planning->free_bytes > reserve ? planning->free_bytes - reserve : 0;
    struct share_part part[SETTINGS_TIERS_MAX];
    struct buffer text = {0};
    uint32_t count = 0;
    bool fits;

    for (uint32_t i = 0; i < crew->count; i++)
        if (gpu_is_backend(crew->tier[i]->backend))
            part[count++] = part_of(crew->tier[i], &planning->plan[i]);
    fits = share_memory(part, count, bytes, &text);
    log_lines(fits, text.data);
    buffer_release(&text);
    for (uint32_t i = 0, at = 0; fits && i < crew->count; i++)
        if (gpu_is_backend(crew->tier[i]->backend))
            crew->kv_tokens[i] = part[at++].kv_tokens;
    return fits ? ERR_OK
                : fail(ERR_SETTINGS,
                       "these tiers do not fit together on GPU %s; the lines above "
                       "add it up",
                       crew->placement->card.uuid);
}

enum err crew_plan(struct crew *crew)
{
    struct planning *planning;
    enum err err;

    if (crew->count < 2 || !crew->placement->has_card)
        return ERR_OK;
    planning = placement_shared(sizeof(*planning));
    if (!planning)
        return fail(ERR_MEMORY, "there is no memory for a plan");
    planning->crew = crew;
    if (!placement_apart(plan_apart, planning))
        err = fail(ERR_DEVICE, "the process that planned the GPU's memory died");
    else
        err = planning->err ? planning->err : share(crew, planning);
    placement_unshare(planning, sizeof(*planning));
    return err;
}

/* --------------------------------------------------------------------------- settings of a member ---- */

static const char *keep(struct settings *settings, const struct buffer *text)
{
    return arena_copy(&settings->arena, text->data, text->len);
}

/* "127.0.0.1:9400" and 2: "127.0.0.1:9402"; port 0, and none, stay. */
static const char *http_of(struct settings *settings, const char *http, uint32_t index)
{
    const char *colon = strrchr(http, ':');
    unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;
    struct buffer text = {0};

    if (port == 0)
        return http;
    buffer_printf(&text, "%.*s:%lu", (int)(colon - http), http, port + index);
    http = keep(settings, &text);
    buffer_release(&text);
    return http;
}

static double part_of_price(const struct crew *crew, uint32_t index)
{
    double sum = 0;

    for (uint32_t i = 0; i < crew->count; i++)
        sum += crew->tier[i]->gpu_share;
    return crew->tier[index]->gpu_share / sum;
}

void crew_settings(const struct crew *crew, uint32_t index, struct settings *ret,
                   const char **ret_name)
{
    const char *tier = crew->tier[index]->name;
    const double part = part_of_price(crew, index);
    struct settings_worker *worker = &ret->worker;
    struct buffer text = {0};

    *ret = *crew->settings;
    ret->arena = (struct arena){0};
    worker->price_per_gpu_hour *= part;
    worker->price_on_demand_per_gpu_hour *= part;
    worker->http = http_of(ret, worker->http, index);
    if (worker->recorder[0]) {
        buffer_printf(&text, "%s.%s", worker->recorder, tier);
        worker->recorder = keep(ret, &text);
        buffer_clear(&text);
    }
    if (crew->name && crew->name[0])
        buffer_printf(&text, "%s.%s", crew->name, tier);
    else if (worker->name[0])
        buffer_printf(&text, "%s.%s", worker->name, tier);
    else {
        char host[256] = "localhost";

        (void)gethostname(host, sizeof(host) - 1);
        buffer_printf(&text, "%s.%s", host, tier);
    }
    *ret_name = keep(ret, &text);
    buffer_release(&text);
}

void crew_forget_settings(struct settings *settings)
{
    arena_release(&settings->arena);
}

/* --------------------------------------------------------------------------------- the processes ---- */

struct roster {
    pid_t pid[SETTINGS_TIERS_MAX]; /* 0: it has ended */
    uint32_t count;
    sigset_t waited, before;
    int status; /* the first that was not 0 */
};

static void tell_all(const struct roster *roster, int number)
{
    for (uint32_t i = 0; i < roster->count; i++)
        if (roster->pid[i] > 0)
            kill(roster->pid[i], number);
}

static bool any_is_left(const struct roster *roster)
{
    for (uint32_t i = 0; i < roster->count; i++)
        if (roster->pid[i] > 0)
            return true;
    return false;
}

static void note_end(struct roster *roster, const struct crew *crew, pid_t pid, int wait_status)
{
    int status =
        WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : err_exit_status(ERR_INTERRUPTED);

    for (uint32_t i = 0; i < roster->count; i++) {
        if (roster->pid[i] != pid)
            continue;
        roster->pid[i] = 0;
        log_info("crew.ended", "tier=%s status=%d", crew->tier[i]->name, status);
    }
    if (status != 0 && roster->status == 0) {
        roster->status = status;
        tell_all(roster, SIGTERM);
    }
}

static int wait_for_all(struct roster *roster, const struct crew *crew)
{
    while (any_is_left(roster)) {
        int number = sigwaitinfo(&roster->waited, NULL), wait_status;
        pid_t pid;

        if (number > 0 && number != SIGCHLD)
            tell_all(roster, number);
        while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0)
            note_end(roster, crew, pid, wait_status);
    }
    return roster->status;
}

static void take_signals(struct roster *roster)
{
    sigemptyset(&roster->waited);
    sigaddset(&roster->waited, SIGCHLD);
    sigaddset(&roster->waited, SIGTERM);
    sigaddset(&roster->waited, SIGINT);
    sigaddset(&roster->waited, SIGUSR1);
    sigprocmask(SIG_BLOCK, &roster->waited, &roster->before);
}

/* When the crew is gone already, its signal will not come. */
static bool begin_member(const struct roster *roster, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, &roster->before, NULL);
    return getppid() == parent;
}

int crew_run(const struct crew *crew, int (*work)(void *context, uint32_t index), void *context)
{
    const pid_t parent = getpid();
    struct roster roster = {0};

    take_signals(&roster);
    for (uint32_t i = 0; i < crew->count && roster.status == 0; i++) {
        pid_t pid = fork();

        if (pid == 0)
            return begin_member(&roster, parent) ? work(context, i)
                                                 : err_exit_status(ERR_INTERRUPTED);
        if (pid < 0) {
            roster.status = err_exit_status(
                fail(ERR_MEMORY, "no process could be made for a tier: %s", strerror(errno)));
            tell_all(&roster, SIGTERM);
            break;
        }
        roster.pid[roster.count++] = pid;
        log_info("crew.begun", "tier=%s pid=%d", crew->tier[i]->name, (int)pid);
    }
    return wait_for_all(&roster, crew);
}
