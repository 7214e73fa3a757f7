/* settings.c: the order in which values override each other, and the checks between settings. */
#include "config/settings.h"
#include "config/log.h"
#include "config/nearest.h"
#include "config/settings_table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 20, VARIABLE_BYTES_MAX = 160, NEAR_MAX = 2 };

extern char **environ;

/* Which file to read; NULL: none. */
static const char *choose_file(const char *path)
{
    static const char *const places[] = {"config/mserve.yaml", "/etc/mserve/mserve.yaml"};
    const char *variable = getenv("MSERVE_CONFIG");

    if (path != NULL)
        return path;
    if (variable != NULL && variable[0] != '\0')
        return variable;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (access(places[i], F_OK) == 0)
            return places[i];
    return NULL;
}

static enum err read_file(const char *path, struct buffer *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = -1;

    if (fd < 0)
        return fail(ERR_SETTINGS, "The settings file %s cannot be opened: %s.", path,
                    strerror(errno));
    while (text->len <= FILE_BYTES_MAX) {
        got = read(fd, buffer_reserve(text, 65536), 65536);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        text->len += (size_t)got;
    }
    if (got < 0)
        fail(ERR_SETTINGS, "The settings file %s cannot be read: %s.", path, strerror(errno));
    else if (text->len > FILE_BYTES_MAX)
        fail(ERR_SETTINGS, "The settings file %s is larger than 1 MiB.", path);
    close(fd);
    return got < 0 || text->len > FILE_BYTES_MAX ? ERR_SETTINGS : ERR_OK;
}

/* kafka.brokers is MSERVE_KAFKA_BROKERS. */
static void variable_of(const struct setting *row, const char *suffix, char *out)
{
    size_t len = (size_t)snprintf(out, VARIABLE_BYTES_MAX, "MSERVE_%s%s", row->name, suffix);

    for (size_t i = 0; i < len && i < VARIABLE_BYTES_MAX; i++)
        out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

static bool read_variable(struct settings *settings, const struct setting *row, unsigned *problems)
{
    char name[VARIABLE_BYTES_MAX];
    struct buffer allowed = {0};
    const char *value;

    variable_of(row, "", name);
    value = getenv(name);
    if (value == NULL || value[0] == '\0')
        return false;
    if (setting_set(row, (struct slice){value, strlen(value)}, &settings->arena, settings))
        return true;
    setting_add_allowed(row, &allowed);
    if (row->type == SETTING_SECRET)
        fail(ERR_SETTINGS, "%s must be %s.", name, allowed.data);
    else
        fail(ERR_SETTINGS, "%s is \"%.60s\" but must be %s.", name, value, allowed.data);
    buffer_release(&allowed);
    ++*problems;
    return false;
}

/* MSERVE_X_FILE for a secret x. */
static bool read_file_variable(struct settings *settings, const struct setting *row,
                               unsigned *problems)
{
    char name[VARIABLE_BYTES_MAX];
    const char *path;

    variable_of(row, "_FILE", name);
    path = getenv(name);
    if (path == NULL || path[0] == '\0')
        return false;
    if (!setting_read_secret(row, name, path, &settings->arena, settings))
        return true;
    ++*problems;
    return false;
}

/* The variable that is nearest to what was typed, and how near. */
struct near {
    char name[VARIABLE_BYTES_MAX];
    size_t distance;
};

static void look_near(struct near *near, const char *typed, const char *name)
{
    size_t distance = word_distance(typed, name);

    if (distance >= near->distance)
        return;
    near->distance = distance;
    snprintf(near->name, sizeof(near->name), "%s", name);
}

/*
 * A variable that is nearly a setting's is refused as a misspelt key of the file is: else what was
 * meant would silently not be so. All others are somebody else's; a cluster sets MSERVE_WORKER_PORT
 * by itself for a service of the name mserve-worker.
 */
static void refuse_misspelt(const char *variable, unsigned *problems)
{
    char typed[VARIABLE_BYTES_MAX], name[VARIABLE_BYTES_MAX];
    struct near near = {.distance = NEAR_MAX + 1};
    size_t len = strcspn(variable, "=");

    if (len >= sizeof(typed) || variable[len] == '\0' || variable[len + 1] == '\0')
        return;
    snprintf(typed, sizeof(typed), "%.*s", (int)len, variable);
    look_near(&near, typed, "MSERVE_CONFIG");
    for (size_t i = 0; i < settings_rows.count; i++) {
        variable_of(&settings_rows.rows[i], "", name);
        look_near(&near, typed, name);
        variable_of(&settings_rows.rows[i], "_FILE", name);
        if (settings_rows.rows[i].type == SETTING_SECRET)
            look_near(&near, typed, name);
    }
    if (near.distance == 0 || near.distance > NEAR_MAX)
        return;
    fail(ERR_SETTINGS, "The variable %s is no setting; did you mean %s?", typed, near.name);
    ++*problems;
}

static void read_environment(struct settings *settings, uint8_t *origin, unsigned *problems)
{
    for (size_t i = 0; i < settings_rows.count; i++) {
        const struct setting *row = &settings_rows.rows[i];

        if ((row->type == SETTING_SECRET && read_file_variable(settings, row, problems)) ||
            read_variable(settings, row, problems))
            origin[i] = SETTING_ENVIRONMENT;
    }
    for (char **variable = environ; *variable != NULL; variable++)
        if (strncmp(*variable, "MSERVE_", 7) == 0)
            refuse_misspelt(*variable, problems);
}

static unsigned check_tier(const struct settings *settings, uint32_t index)
{
    const struct settings_tier *tier = &settings->tier[index];
    unsigned problems = 0;

    if (tier->name[0] == '\0' || strlen(tier->name) > 64)
        problems +=
            !!fail(ERR_SETTINGS, "tiers: tier %u needs a name of 1 to 64 bytes.", index + 1);
    if (strcmp(tier->backend, "sim") != 0 && tier->model[0] == '\0')
        problems +=
            !!fail(ERR_SETTINGS, "tiers: %s needs a model, the path of a GGUF file.", tier->name);
    if (tier->rows_max < tier->sequences_max)
        problems += !!fail(ERR_SETTINGS,
                           "tiers: %s has a rows_max of %u, less than its "
                           "sequences_max of %u.",
                           tier->name, tier->rows_max, tier->sequences_max);
    if (tier->served_names.count == 0)
        problems += !!fail(ERR_SETTINGS,
                           "tiers: %s needs served_names, the model names that it "
                           "answers to.",
                           tier->name);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(settings->tier[i].name, tier->name) == 0)
            problems += !!fail(ERR_SETTINGS, "tiers: the name %s stands twice.", tier->name);
    for (uint32_t i = 0; i < tier->served_names.count; i++) {
        const char *name = tier->served_names.item[i];
        const struct settings_tier *other =
            settings_tier_serving(settings, (struct slice){name, strlen(name)});

        if (other != tier)
            problems += !!fail(ERR_SETTINGS, "tiers: %s and %s both answer to %s.", other->name,
                               tier->name, name);
    }
    return problems;
}

static unsigned check_notices(const struct settings_worker *worker)
{
    static const char *const known[] = {"aws", "gcp", "azure", "file"};
    unsigned problems = 0;

    for (uint32_t i = 0; i < worker->notices.count; i++) {
        const char *name = worker->notices.item[i];
        bool found = false;

        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
            found = found || strcmp(name, known[k]) == 0;
        if (!found)
            problems +=
                !!fail(ERR_SETTINGS,
                       "worker.notices has %s, but there are aws, gcp, azure and file.", name);
        if (strcmp(name, "file") == 0 && worker->notice_file[0] == '\0')
            problems += !!fail(ERR_SETTINGS, "worker.notices has file, so worker.notice_file must "
                                             "say which.");
    }
    return problems;
}

/* What a single row cannot know. */
static unsigned check_together(const struct settings *settings)
{
    const struct settings_submit *submit = &settings->submit;
    const struct settings_kafka *kafka = &settings->kafka;
    size_t dsn = (size_t)(setting_find(&settings_rows, SLICE("postgres.dsn")) - settings_rows.rows);
    unsigned problems = 0;

    if (settings->origin[dsn] == SETTING_FILE && setting_has_password(settings->postgres.dsn))
        problems += !!fail(ERR_SETTINGS, "postgres.dsn must not hold a password; put it in a file "
                                         "of its own and its path in postgres.password_file.");
    if (settings->worker.renew_ms > settings->worker.lease_ms / 2)
        problems += !!fail(ERR_SETTINGS, "worker.renew must be at most half of worker.lease.");
    if (submit->window_ms > submit->window_max_ms)
        problems += !!fail(ERR_SETTINGS, "submit.window must not be longer than "
                                         "submit.window_max.");
    if (kafka->retention_ms <= submit->window_max_ms)
        problems +=
            !!fail(ERR_SETTINGS, "kafka.retention must be longer than "
                                 "submit.window_max, or requests vanish before their window ends.");
    if (submit->chunk_lines_min > submit->chunk_lines_max)
        problems += !!fail(ERR_SETTINGS, "submit.chunk_lines_min must not be larger than "
                                         "submit.chunk_lines_max.");
    if (strncmp(kafka->security_protocol, "sasl", 4) == 0 &&
        (kafka->sasl_username[0] == '\0' || kafka->sasl_password[0] == '\0'))
        problems += !!fail(ERR_SETTINGS,
                           "kafka.security_protocol %s needs kafka.sasl_username "
                           "and kafka.sasl_password_file.",
                           kafka->security_protocol);
    if ((kafka->ssl_certificate_file[0] == '\0') != (kafka->ssl_key_file[0] == '\0'))
        problems += !!fail(ERR_SETTINGS, "kafka.ssl_certificate_file and kafka.ssl_key_file "
                                         "belong together.");
    problems += check_notices(&settings->worker);
    for (uint32_t i = 0; i < settings->tier_count; i++)
        problems += check_tier(settings, i);
    return problems;
}

enum err settings_load(const char *path, struct settings **ret)
{
    struct settings *settings = xcalloc(1, sizeof(*settings));
    uint8_t *origin = arena_zalloc(&settings->arena, settings_rows.count, 1);
    struct buffer text = {0};
    unsigned problems = 0;
    enum err err = ERR_OK;

    setting_set_defaults(&settings_rows, &settings->arena, settings);
    settings->origin = origin;
    path = choose_file(path);
    if (path != NULL) {
        settings->file = arena_copy(&settings->arena, path, strlen(path));
        err = read_file(path, &text);
        if (err)
            goto done;
        settings_read_yaml(settings, path, buffer_slice(&text), origin, &problems);
    }
    read_environment(settings, origin, &problems);
    if (problems == 0)
        problems = check_together(settings);
    err = problems > 0 ? ERR_SETTINGS : ERR_OK;
done:
    buffer_release(&text);
    if (err) {
        settings_free(settings);
        return err;
    }
    *ret = settings;
    return ERR_OK;
}

void settings_free(struct settings *settings)
{
    if (settings == NULL)
        return;
    arena_release(&settings->arena);
    free(settings);
}

enum err settings_check(const char *path, FILE *out)
{
    struct settings *settings;
    enum err err = settings_load(path, &settings);

    if (err)
        return err;
    fprintf(out, "%s is valid: %u tier%s.\n",
            settings->file != NULL ? settings->file : "no file; the environment",
            settings->tier_count, settings->tier_count == 1 ? "" : "s");
    settings_free(settings);
    return ERR_OK;
}

const struct settings_tier *settings_tier_find(const struct settings *settings, const char *name)
{
    for (uint32_t i = 0; i < settings->tier_count; i++)
        if (strcmp(settings->tier[i].name, name) == 0)
            return &settings->tier[i];
    return NULL;
}

const struct settings_tier *settings_tier_serving(const struct settings *settings,
                                                  struct slice model)
{
    for (uint32_t i = 0; i < settings->tier_count; i++) {
        const struct settings_list *names = &settings->tier[i].served_names;

        for (uint32_t j = 0; j < names->count; j++)
            if (strlen(names->item[j]) == model.len &&
                memcmp(names->item[j], model.data, model.len) == 0)
                return &settings->tier[i];
    }
    return NULL;
}

void settings_log_init(const struct settings *settings, const char *program, bool plain)
{
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    int level = LOG_INFO;

    for (int i = 0; i <= LOG_DEBUG; i++)
        if (strcmp(settings->log.level, levels[i]) == 0)
            level = i;
    log_init(program, (enum log_level)level,
             strcmp(settings->log.format, "json") == 0 ? LOG_JSON : LOG_LOGFMT, plain);
}

const char *setting_nearest(const struct setting_table *table, const char *name)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    for (size_t i = 0; i < table->count; i++) {
        size_t distance = word_distance(name, table->rows[i].name);

        if (distance < best_distance) {
            best_distance = distance;
            best = table->rows[i].name;
        }
    }
    return best != NULL && word_is_near(name, best, best_distance) ? best : NULL;
}
