/* placement.c: a list made in a process of its own, a choice, a lock. */
#include "consumer/placement.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/units.h"

enum { LINE_MAX_BYTES = 256, MODE = 0666 };

/* ------------------------------------------------------------------------ a process of its own ---- */

bool placement_apart(void (*work)(void *context), void *context)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        work(context);
        _exit(0);
    }
    if (child < 0)
        return false;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void *placement_shared(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

void placement_unshare(void *at, size_t bytes)
{
    if (at)
        munmap(at, bytes);
}

/* ----------------------------------------------------------------------------------- which one ---- */

static bool begins_with(const char *uuid, const char *wish)
{
    return strncasecmp(uuid, wish, strlen(wish)) == 0 ||
           (strncasecmp(uuid, "GPU-", 4) == 0 && strncasecmp(uuid + 4, wish, strlen(wish)) == 0);
}

/* A short number is a place in the list; UUIDs that begin with digits are meant by more of them. */
static bool is_number(const char *wish)
{
    size_t len = strlen(wish);

    return len > 0 && len <= 2 && strspn(wish, "0123456789") == len;
}

bool placement_find(const struct gpu_cards *cards, const char *wish, uint32_t *ret)
{
    uint32_t found = 0;

    if (is_number(wish)) {
        *ret = (uint32_t)strtoul(wish, NULL, 10);
        return *ret < cards->count;
    }
    for (uint32_t i = 0; i < cards->count && wish[0]; i++) {
        if (!begins_with(cards->card[i].uuid, wish))
            continue;
        *ret = i;
        found++;
    }
    return found == 1;
}

/* ------------------------------------------------------------------------------------ the lock ---- */

static const char *folder(const struct settings_worker *settings)
{
    const char *given = getenv("RUNTIME_DIRECTORY");

    if (settings->gpu_dir[0])
        return settings->gpu_dir;
    return given && given[0] ? given : "/tmp";
}

/* A file of somebody else's, in a folder of everybody's, may be opened but not with O_CREAT. */
static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0 || errno != ENOENT)
        return fd;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT, MODE);
    if (fd >= 0 && fchmod(fd, MODE) != 0) { /* whatever the umask: workers may be different users */
        close(fd);
        return -1;
    }
    return fd;
}

static void read_line(int fd, char line[LINE_MAX_BYTES])
{
    ssize_t len = pread(fd, line, LINE_MAX_BYTES - 1, 0);

    line[len > 0 ? len : 0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

static bool write_line(int fd, const char *line)
{
    size_t len = strlen(line);

    return ftruncate(fd, 0) == 0 && pwrite(fd, line, len, 0) == (ssize_t)len;
}

/* For how much longer a card is to be left alone; *ret_reason points into the line. */
static uint64_t rest_ms(const char *line, uint64_t rest, uint64_t now_ms, const char **ret_reason)
{
    uint64_t since_ms;
    int at = 0;

    if (sscanf(line, "sick %" SCNu64 " %n", &since_ms, &at) < 1 || at == 0)
        return 0;
    *ret_reason = line + at;
    if (now_ms >= since_ms && now_ms - since_ms >= rest)
        return 0;
    return now_ms >= since_ms ? rest - (now_ms - since_ms) : rest;
}

/* True when it is ours now; else what is the matter with it is added to `text`. */
static bool try_card(const struct settings_worker *settings, const struct gpu_card *card,
                     uint64_t now_ms, int *ret_fd, struct buffer *text)
{
    char path[512], line[LINE_MAX_BYTES];
    const char *reason = "";
    uint64_t left_ms;
    int fd;

    snprintf(path, sizeof(path), "%s/mserve-gpu-%s", folder(settings), card->uuid);
    fd = open_file(path);
    if (fd < 0) {
        buffer_printf(text, ", %s cannot be opened: %s", path, strerror(errno));
        return false;
    }
    read_line(fd, line);
    left_ms = rest_ms(line, settings->gpu_rest_ms, now_ms, &reason);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        buffer_printf(text, ", taken by %s%s", strncmp(line, "taken ", 6) == 0 ? "process " : "",
                      strncmp(line, "taken ", 6) == 0 ? line + 6 : "another worker");
    } else if (left_ms > 0) {
        buffer_printf(text, ", sick (%s), left alone for ", reason);
        duration_add(text, (left_ms + 999) / 1000 * 1000);
        buffer_printf(text, " more, or until %s is removed", path);
    } else {
        snprintf(line, sizeof(line), "taken %d\n", (int)getpid());
        if (!write_line(fd, line))
            log_warn("gpu.unsaid", "file=%s why=\"%s\"", path, strerror(errno));
        *ret_fd = fd;
        return true;
    }
    close(fd);
    return false;
}

/* ---------------------------------------------------------------------------------- the choice ---- */

static void add_card(const struct gpu_cards *cards, uint32_t i, struct buffer *text)
{
    const struct gpu_card *card = &cards->card[i];

    buffer_printf(text, "%s%u %s %s (%.0f GiB)", text->len > 0 ? "; " : "", i, card->uuid,
                  card->name, (double)card->memory_bytes / (1ull << 30));
}

static enum err refuse_wish(const struct gpu_cards *cards, const char *wish)
{
    struct buffer text = {0};

    for (uint32_t i = 0; i < cards->count; i++)
        add_card(cards, i, &text);
    fail(ERR_SETTINGS,
         "worker.gpu is \"%s\", which is none or several of the GPUs that there are: "
         "%s",
         wish, text.data);
    buffer_release(&text);
    return ERR_SETTINGS;
}

enum err placement_choose(const struct settings_worker *settings, const struct gpu_cards *cards,
                          uint64_t now_ms, struct placement *ret)
{
    struct buffer text = {0};
    uint32_t from = 0, to = cards->count;

    *ret = (struct placement){.fd = -1};
    if (settings->gpu[0]) {
        if (!placement_find(cards, settings->gpu, &from))
            return refuse_wish(cards, settings->gpu);
        to = from + 1;
    }
    for (uint32_t i = from; i < to && !ret->has_card; i++) {
        add_card(cards, i, &text);
        ret->has_card = try_card(settings, &cards->card[i], now_ms, &ret->fd, &text);
        ret->card = cards->card[i];
        ret->index = i;
    }
    if (!ret->has_card)
        fail(ERR_DEVICE, "no GPU can be had: %s", text.data);
    buffer_release(&text);
    return ret->has_card ? ERR_OK : ERR_DEVICE;
}

struct listing {
    const char *backend;
    struct gpu_cards cards;
};

static void list_cards(void *context)
{
    struct listing *listing = context;

    gpu_list(listing->backend, &listing->cards);
}

enum err placement_take(const struct settings_worker *settings, const char *backend,
                        struct placement *ret)
{
    struct listing *listing;
    enum err err = ERR_OK;

    *ret = (struct placement){.fd = -1};
    if (!gpu_is_backend(backend))
        return ERR_OK;
    listing = placement_shared(sizeof(*listing));
    if (!listing)
        return fail(ERR_MEMORY, "there is no memory for a list of GPUs");
    listing->backend = backend;
    if (!placement_apart(list_cards, listing))
        err = fail(ERR_DEVICE, "the driver ended the process that asked it for its GPUs");
    else if (listing->cards.count == 0)
        snprintf(ret->why, sizeof(ret->why), "%s", listing->cards.why);
    else
        err = placement_choose(settings, &listing->cards, clock_wall_ms(), ret);
    if (ret->has_card)
        log_info("gpu.taken",
                 "index=%u uuid=%s name=\"%s\" bus=%s memory_mib=%" PRIu64 " driver=%u", ret->index,
                 ret->card.uuid, ret->card.name, ret->card.bus, ret->card.memory_bytes >> 20,
                 listing->cards.driver);
    placement_unshare(listing, sizeof(*listing));
    return err;
}

void placement_mark_sick(const struct placement *placement, const char *reason, uint64_t now_ms)
{
    char line[LINE_MAX_BYTES];

    if (!placement->has_card)
        return;
    snprintf(line, sizeof(line), "sick %" PRIu64 " %.180s\n", now_ms, reason);
    if (!write_line(placement->fd, line))
        log_warn("gpu.unmarked", "uuid=%s why=\"%s\"", placement->card.uuid, strerror(errno));
}

void placement_release(struct placement *placement)
{
    if (placement->has_card)
        close(placement->fd);
    *placement = (struct placement){.fd = -1};
}
