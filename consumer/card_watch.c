/* card_watch.c: the thread, and from what it reads to the rows of config/metrics_table.h. */
#include "consumer/card_watch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"

enum { LOOK_MS = 1000, PERCENT = 10000000 /* billionths */, MW_PER_W = 1000 };

struct card_watch {
    struct card_watch_options options;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* of quit */
    pthread_cond_t told;
    bool quit;
    atomic_bool sick;
    char reason[160]; /* written before `sick` */
};

static void show(const struct gpu_health *health)
{
    if (health->has & GPU_HAS_MEMORY) {
        metrics_set(METRIC_GPU_MEMORY, 0, (int64_t)health->memory_bytes);
        metrics_set(METRIC_GPU_MEMORY_USED, 0, (int64_t)health->memory_used_bytes);
    }
    if (health->has & GPU_HAS_LOAD)
        metrics_set(METRIC_GPU_UTILISATION, 0, (int64_t)health->load_percent * PERCENT);
    if (health->has & GPU_HAS_POWER)
        metrics_set(METRIC_GPU_POWER, 0, (health->power_mw + MW_PER_W / 2) / MW_PER_W);
    if (health->has & GPU_HAS_TEMPERATURE)
        metrics_set(METRIC_GPU_TEMPERATURE, 0, health->temperature_c);
    if (health->has & GPU_HAS_ECC)
        metrics_set(METRIC_GPU_ECC, 0, (int64_t)health->ecc_uncorrected);
    if (health->has & GPU_HAS_SLOWED)
        metrics_set(METRIC_GPU_SLOWED, 0, health->slowed);
    metrics_add(METRIC_GPU_XIDS, 0, health->xids);
    metrics_set(METRIC_GPU_SICK, 0, health->sick);
}

static void tell(struct card_watch *watch, const struct gpu_health *health)
{
    char quoted[400];

    if (health->xids > 0)
        log_warn("gpu.xid", "uuid=%s xid=%" PRIu32 " count=%" PRIu32, watch->options.card->uuid,
                 health->xid, health->xids);
    if (!health->sick || atomic_load(&watch->sick))
        return;
    log_error("gpu.sick", "uuid=%s reason=%s msg=\"the worker saves what it has and leaves\"",
              watch->options.card->uuid, log_quote(quoted, sizeof(quoted), health->reason));
    memcpy(watch->reason, health->reason, sizeof(watch->reason));
    atomic_store(&watch->sick, true);
    watch->options.on_sick(watch->options.context);
}

/* False when the end has come. */
static bool rest(struct card_watch *watch)
{
    struct timespec until;
    bool quit;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOOK_MS / 1000;
    pthread_mutex_lock(&watch->lock);
    while (!watch->quit && pthread_cond_timedwait(&watch->told, &watch->lock, &until) == 0)
        ;
    quit = watch->quit;
    pthread_mutex_unlock(&watch->lock);
    return !quit;
}

static void *look_now_and_then(void *argument)
{
    struct card_watch *watch = argument;
    char why[GPU_WHY_SIZE] = "", quoted[2 * GPU_WHY_SIZE];
    struct gpu_watch *gpu = gpu_watch_open(watch->options.backend, watch->options.card, why);
    struct gpu_health health;

    if (!gpu) {
        log_warn("gpu.unwatched",
                 "uuid=%s why=%s msg=\"nobody will see that the card is sick but by its failing\"",
                 watch->options.card->uuid, log_quote(quoted, sizeof(quoted), why));
        return NULL;
    }
    do {
        gpu_watch_look(gpu, &health);
        show(&health);
        tell(watch, &health);
    } while (rest(watch));
    gpu_watch_close(gpu);
    return NULL;
}

enum err card_watch_start(const struct card_watch_options *options, struct card_watch **ret)
{
    struct card_watch *watch = xcalloc(1, sizeof(*watch));
    pthread_condattr_t monotonic;
    int failed;

    watch->options = *options;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->told, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&watch->lock, NULL);
    *ret = watch;
    failed = pthread_create(&watch->thread, NULL, look_now_and_then, watch);
    if (failed)
        return fail(ERR_MEMORY, "the thread that watches the GPU could not be started: %s",
                    strerror(failed));
    watch->started = true;
    pthread_setname_np(watch->thread, "gpu-watch");
    return ERR_OK;
}

const char *card_watch_reason(const struct card_watch *watch)
{
    return watch && atomic_load(&watch->sick) ? watch->reason : "";
}

void card_watch_stop(struct card_watch *watch)
{
    if (!watch)
        return;
    if (watch->started) {
        pthread_mutex_lock(&watch->lock);
        watch->quit = true;
        pthread_cond_signal(&watch->told);
        pthread_mutex_unlock(&watch->lock);
        pthread_join(watch->thread, NULL);
    }
    free(watch);
}
