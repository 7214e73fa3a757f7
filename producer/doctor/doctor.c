/* doctor.c: the lines, the report, and the checks that need neither server. */
#include "producer/doctor/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "config/json.h"
#include "config/log.h"
#include "config/sha256.h"
#include "config/utf8.h"

enum { NEED_BYTES = 1 << 30 };

static const char *const level_names[] = {"ok", "warning", "problem"};

/* -------------------------------------------------------------------------------------- the lines ---- */

__attribute__((format(printf, 2, 0))) static const char *keep(struct doctor *doctor,
                                                              const char *format, va_list args)
{
    char text[2048];
    struct buffer clean = {0};
    const char *kept;
    int len = vsnprintf(text, sizeof(text), format, args);

    if (len < 0)
        len = 0;
    if ((size_t)len >= sizeof(text))
        len = sizeof(text) - 1;
    utf8_add_printable(&clean, (struct slice){text, (size_t)len}); /* names are of others' making */
    kept = arena_copy(&doctor->arena, clean.len ? clean.data : "", clean.len);
    buffer_release(&clean);
    return kept;
}

void doctor_say(struct doctor *doctor, enum doctor_level level, const char *area,
                const char *format, ...)
{
    struct doctor_line *line;
    va_list args;

    doctor->line = xrealloc(doctor->line, doctor->count + 1, sizeof(*doctor->line));
    line = &doctor->line[doctor->count++];
    doctor->of_level[level]++;
    va_start(args, format);
    *line = (struct doctor_line){level, area, keep(doctor, format, args), NULL};
    va_end(args);
}

void doctor_next(struct doctor *doctor, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    doctor->line[doctor->count - 1].next = keep(doctor, format, args);
    va_end(args);
}

void doctor_catch(struct doctor *doctor)
{
    doctor->caught[0] = '\0';
    log_catch(doctor->caught, sizeof(doctor->caught));
}

const char *doctor_caught(struct doctor *doctor)
{
    log_catch(NULL, 0);
    return doctor->caught;
}

bool doctor_ask(struct doctor *doctor, const char *area, const char *query, struct db_params params,
                struct db_result *ret)
{
    enum err rc;

    doctor_catch(doctor);
    rc = db_exec(doctor->db, query, params, ret);
    doctor_caught(doctor);
    if (rc == ERR_OK)
        return true;
    if (rc == ERR_AGAIN) {
        doctor_say(doctor, DOCTOR_WARNING, area, "this took too long to look at");
        doctor_next(doctor, "Look at what keeps PostgreSQL busy: pg_stat_activity.");
        return false;
    }
    doctor_say(doctor, DOCTOR_PROBLEM, area, "%s",
               doctor->caught[0] ? doctor->caught : err_phrase(rc));
    doctor_next(doctor, rc == ERR_DENIED ? "Run it as the role that owns the schema."
                                         : "See the log of PostgreSQL.");
    return false;
}

/* ------------------------------------------------------------------------------------- the report ---- */

static void print_text(const struct doctor *doctor, FILE *out)
{
    for (uint32_t i = 0; i < doctor->count; i++) {
        const struct doctor_line *line = &doctor->line[i];

        fprintf(out, "%-8s %-11s %s\n", level_names[line->level], line->area, line->text);
        if (line->next)
            fprintf(out, "%20s -> %s\n", "", line->next);
    }
    if (doctor->of_level[DOCTOR_WARNING] + doctor->of_level[DOCTOR_PROBLEM] == 0)
        fprintf(out, "all is well\n");
    else
        fprintf(out, "problems: %u, warnings: %u\n", doctor->of_level[DOCTOR_PROBLEM],
                doctor->of_level[DOCTOR_WARNING]);
}

static void print_json(const struct doctor *doctor, FILE *out)
{
    struct buffer text = {0};

    json_write_open(&text, '{');
    json_write_key(&text, "problems");
    json_write_u64(&text, doctor->of_level[DOCTOR_PROBLEM]);
    json_write_key(&text, "warnings");
    json_write_u64(&text, doctor->of_level[DOCTOR_WARNING]);
    json_write_key(&text, "lines");
    json_write_open(&text, '[');
    for (uint32_t i = 0; i < doctor->count; i++) {
        const struct doctor_line *line = &doctor->line[i];

        json_write_next(&text);
        json_write_open(&text, '{');
        json_write_key(&text, "level");
        json_write_text(&text, level_names[line->level]);
        json_write_key(&text, "area");
        json_write_text(&text, line->area);
        json_write_key(&text, "text");
        json_write_text(&text, line->text);
        json_write_key(&text, "next");
        json_write_text(&text, line->next);
        json_write_close(&text, '}');
    }
    json_write_close(&text, ']');
    json_write_close(&text, '}');
    fprintf(out, "%s\n", text.data);
    buffer_release(&text);
}

/* ------------------------------------------------------------------------------- of this host alone ---- */

void doctor_settings(struct doctor *doctor, const char *config, struct settings **ret)
{
    enum err rc;

    doctor_catch(doctor);
    rc = settings_load(config, ret);
    doctor_caught(doctor);
    if (rc != ERR_OK) {
        doctor_say(doctor, DOCTOR_PROBLEM, "settings", "%s", doctor->caught);
        doctor_next(doctor, "Correct it; `mserve check-config` names all mistakes at once.");
        return;
    }
    doctor->settings = *ret;
    if ((*ret)->tier_count == 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "settings", "there are no tiers, so nothing can be run");
        doctor_next(doctor, "Add one under tiers: in %s.",
                    (*ret)->file ? (*ret)->file : "a settings file; only the environment was read");
        return;
    }
    doctor_say(doctor, DOCTOR_OK, "settings", "%s: %u tier%s",
               (*ret)->file ? (*ret)->file : "no file, the environment", (*ret)->tier_count,
               (*ret)->tier_count == 1 ? "" : "s");
}

/* The digest of a file; false when it cannot be read, with errno. */
static bool digest_file(const char *path, char ret[SHA256_HEX_SIZE], bool *ret_gguf)
{
    static char piece[1 << 16];
    uint8_t digest[SHA256_BYTES];
    struct sha256 sha;
    FILE *file = fopen(path, "re");
    size_t got, all = 0;
    bool good;

    if (!file)
        return false;
    sha256_init(&sha);
    *ret_gguf = false;
    while ((got = fread(piece, 1, sizeof(piece), file)) > 0) {
        if (all == 0)
            *ret_gguf = got >= 4 && memcmp(piece, "GGUF", 4) == 0;
        sha256_add(&sha, piece, got);
        all += got;
    }
    good = !ferror(file);
    fclose(file);
    sha256_end(&sha, digest);
    sha256_release(&sha);
    hex_encode(digest, sizeof(digest), ret);
    return good;
}

static void check_model(struct doctor *doctor, const struct settings_tier *tier)
{
    char digest[SHA256_HEX_SIZE];
    bool gguf;

    if (tier->model[0] == '\0') {
        doctor_say(doctor, DOCTOR_OK, "model", "tier %s computes with %s and needs no file",
                   tier->name, tier->backend);
        return;
    }
    if (!digest_file(tier->model, digest, &gguf)) {
        doctor_say(doctor, DOCTOR_PROBLEM, "model", "tier %s: %s cannot be read: %s", tier->name,
                   tier->model, strerror(errno));
        doctor_next(doctor, "Put the file there, or correct the tier's model. It is needed where "
                            "workers run; elsewhere this may be as it should.");
    } else if (!gguf) {
        doctor_say(doctor, DOCTOR_PROBLEM, "model", "tier %s: %s is no GGUF file", tier->name,
                   tier->model);
        doctor_next(doctor, "Fetch it again; what is there may be a pointer or an error page.");
    } else if (tier->sha256[0] && strcmp(tier->sha256, digest) != 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "model",
                   "tier %s: %s has the sha256 %.16s…, and the settings ask for %.16s…", tier->name,
                   tier->model, digest, tier->sha256);
        doctor_next(doctor, "Fetch the file again, or set the tier's sha256 to %s.", digest);
    } else {
        doctor_say(doctor, DOCTOR_OK, "model", "tier %s: %s, sha256 %.16s…%s", tier->name,
                   tier->model, digest, tier->sha256[0] ? ", as the settings ask" : "");
    }
}

void doctor_models(struct doctor *doctor)
{
    for (uint32_t i = 0; i < doctor->settings->tier_count; i++)
        check_model(doctor, &doctor->settings->tier[i]);
}

void doctor_disk(struct doctor *doctor)
{
    const char *folder = doctor->settings->submit.spool_dir;
    struct statvfs disk;
    unsigned long long free_bytes;

    if (statvfs(folder, &disk) != 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "disk", "%s: %s", folder, strerror(errno));
        doctor_next(doctor, "Make the folder, or name another one: submit.spool_dir.");
        return;
    }
    free_bytes = (unsigned long long)disk.f_bavail * disk.f_frsize;
    doctor_say(doctor, free_bytes < NEED_BYTES ? DOCTOR_WARNING : DOCTOR_OK, "disk",
               "%s (submit.spool_dir) has %.1f GB free", folder, (double)free_bytes / 1e9);
    if (free_bytes < NEED_BYTES)
        doctor_next(doctor, "Make room: standard input and unpacked files are kept there while "
                            "they are submitted.");
}

/* ----------------------------------------------------------------------------------------- all ---- */

enum err doctor_run(const char *config, bool json, FILE *out)
{
    struct doctor doctor = {0};
    struct settings *settings = NULL;
    bool unwell;

    doctor_settings(&doctor, config, &settings);
    if (doctor.settings) {
        doctor_database(&doctor);
        doctor_kafka(&doctor);
        doctor_models(&doctor);
        if (doctor.db) {
            doctor_workers(&doctor);
            doctor_jobs(&doctor);
            doctor_books(&doctor);
        }
        doctor_disk(&doctor);
    }
    (json ? print_json : print_text)(&doctor, out);
    unwell = doctor.of_level[DOCTOR_PROBLEM] > 0;
    db_close(doctor.db);
    free(doctor.line);
    arena_release(&doctor.arena);
    settings_free(settings);
    return unwell ? ERR_UNWELL : ERR_OK;
}
