/* A list in memory, read whole and written whole. */
#include "kernels/cuda/choices.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/log.h"

enum { PATH_SIZE = 600, FILE_BYTES_MAX = 4 << 20, RECORDS_MAX = 8192 };

static const char first_line[] = "mserve-matmul 1\n";

struct choices {
    char path[PATH_SIZE]; /* "": nothing is kept */
    char *key;
    struct choice_record *record;
    uint32_t len, room;
    bool changed;
};

static bool same_place(const struct choice_record *a, const struct choice_record *b)
{
    return a->outputs == b->outputs && a->inputs == b->inputs && a->weight == b->weight &&
           a->out == b->out && a->fast == b->fast && a->rows == b->rows;
}

static void add(struct choices *choices, const struct choice_record *record)
{
    for (uint32_t i = 0; i < choices->len; i++)
        if (same_place(&choices->record[i], record)) {
            choices->record[i] = *record;
            return;
        }
    if (choices->len == choices->room) {
        uint32_t room = choices->room ? choices->room * 2 : 64;
        struct choice_record *more =
            room <= RECORDS_MAX ? realloc(choices->record, room * sizeof(*more)) : NULL;

        if (!more)
            return;
        choices->record = more;
        choices->room = room;
    }
    choices->record[choices->len++] = *record;
}

/* ---- text ---- */

static void write_record(struct buffer *out, const struct choice_record *record)
{
    char hash[2 * SHA256_BYTES + 1], algo[2 * sizeof(record->algo) + 1];

    buffer_printf(out, "%u %u %u %u %u %u %s %s %.9g %.9g %u %u\n", record->outputs, record->inputs,
                  record->weight, record->out, record->fast, record->rows,
                  hex_encode(record->class_hash, SHA256_BYTES, hash),
                  hex_encode((const uint8_t *)&record->algo, sizeof(record->algo), algo),
                  (double)record->ms, (double)record->free_ms, record->tried, record->admitted);
}

static bool read_record(const char *line, struct choice_record *ret)
{
    char hash[2 * SHA256_BYTES + 1], algo[2 * sizeof(ret->algo) + 1];

    memset(ret, 0, sizeof(*ret));
    return sscanf(line, "%u %u %u %u %u %u %64s %128s %f %f %u %u", &ret->outputs, &ret->inputs,
                  &ret->weight, &ret->out, &ret->fast, &ret->rows, hash, algo, &ret->ms,
                  &ret->free_ms, &ret->tried, &ret->admitted) == 12 &&
           hex_decode((struct slice){hash, strlen(hash)}, ret->class_hash, SHA256_BYTES) &&
           hex_decode((struct slice){algo, strlen(algo)}, (uint8_t *)&ret->algo, sizeof(ret->algo));
}

static void write_end(struct buffer *out)
{
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];

    sha256_of(buffer_slice(out), digest);
    buffer_printf(out, "end %s\n", hex_encode(digest, SHA256_BYTES, hex));
}

/* Whether the last line is the hash of those before; cuts it off. */
static bool check_end(char *text, size_t len)
{
    const size_t end = 4 + 2 * SHA256_BYTES + 1;
    uint8_t digest[SHA256_BYTES], said[SHA256_BYTES];
    char *line = len > end ? text + len - end : NULL;

    if (!line || memcmp(line, "end ", 4) != 0 || line[end - 1] != '\n' ||
        !hex_decode((struct slice){line + 4, 2 * SHA256_BYTES}, said, SHA256_BYTES))
        return false;
    sha256_of((struct slice){text, len - end}, digest);
    *line = '\0';
    return memcmp(digest, said, SHA256_BYTES) == 0;
}

/* NULL: good. Else what is wrong with it. */
static const char *parse(struct choices *choices, char *text, size_t len)
{
    const size_t key_len = strlen(choices->key);
    char *line = text + sizeof(first_line) - 1;

    if (!check_end(text, len))
        return "its end is not the hash of the rest";
    if (strncmp(text, first_line, sizeof(first_line) - 1) != 0)
        return "it is of another version";
    if (strncmp(line, "key ", 4) != 0 || strncmp(line + 4, choices->key, key_len) != 0 ||
        line[4 + key_len] != '\n')
        return "it is of another GPU, driver or library";
    for (line = strchr(line, '\n') + 1; *line; line = strchr(line, '\n') + 1) {
        struct choice_record record;

        if (!strchr(line, '\n') || !read_record(line, &record))
            return "a line of it makes no sense";
        add(choices, &record);
    }
    return NULL;
}

static void warn(const struct choices *choices, const char *what)
{
    char path[PATH_SIZE + 8];

    log_warn("gpu.choices", "path=%s left_aside=\"%s\"",
             log_quote(path, sizeof(path), choices->path), what);
}

static void load(struct choices *choices)
{
    char *text = malloc(FILE_BYTES_MAX + 1);
    int file = open(choices->path, O_RDONLY | O_CLOEXEC);
    const char *wrong = NULL;
    size_t len = 0;

    while (text && file >= 0 && len < FILE_BYTES_MAX) {
        ssize_t got = read(file, text + len, FILE_BYTES_MAX - len);

        if (got <= 0)
            break;
        len += (size_t)got;
    }
    if (text && file >= 0) {
        text[len] = '\0';
        wrong = parse(choices, text, len);
    }
    if (wrong) {
        warn(choices, wrong);
        choices->len = 0;
    }
    if (file >= 0)
        close(file);
    free(text);
}

/* ---- the file ---- */

static bool find_folder(const char *folder, char path[PATH_SIZE])
{
    const char *own = getenv("MSERVE_CACHE"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int len = -1;

    if (folder || (own && own[0]))
        len = snprintf(path, PATH_SIZE, "%s", folder ? folder : own);
    else if (cache && cache[0] == '/')
        len = snprintf(path, PATH_SIZE, "%s/mserve", cache);
    else if (home && home[0] == '/')
        len = snprintf(path, PATH_SIZE, "%s/.cache/mserve", home);
    return len > 0 && len < PATH_SIZE - 64;
}

struct choices *choices_open(const char *folder, const char *key)
{
    struct choices *choices = calloc(1, sizeof(*choices));
    char name[2 * SHA256_BYTES + 1];
    uint8_t digest[SHA256_BYTES];
    size_t len;

    if (!choices || !(choices->key = strdup(key))) {
        free(choices);
        return NULL;
    }
    if (!find_folder(folder, choices->path)) {
        choices->path[0] = '\0';
        return choices;
    }
    sha256_of((struct slice){key, strlen(key)}, digest);
    hex_encode(digest, SHA256_BYTES, name);
    len = strlen(choices->path);
    snprintf(choices->path + len, PATH_SIZE - len, "/matmul-%.16s.txt", name);
    load(choices);
    return choices;
}

const struct choice_record *choices_find(const struct choices *choices,
                                         const struct choice_record *like)
{
    for (uint32_t i = 0; choices && i < choices->len; i++)
        if (same_place(&choices->record[i], like) &&
            memcmp(choices->record[i].class_hash, like->class_hash, SHA256_BYTES) == 0)
            return &choices->record[i];
    return NULL;
}

void choices_put(struct choices *choices, const struct choice_record *record)
{
    if (!choices)
        return;
    add(choices, record);
    choices->changed = true;
}

/* The folders above the file, like mkdir -p. */
static void make_folders(const char *path)
{
    char part[PATH_SIZE];

    snprintf(part, sizeof(part), "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(part, 0700);
        *slash = '/';
    }
}

static bool write_all(int file, const struct buffer *text)
{
    for (size_t at = 0; at < text->len;) {
        ssize_t done = write(file, text->data + at, text->len - at);

        if (done < 0 && errno != EINTR)
            return false;
        at += done > 0 ? (size_t)done : 0;
    }
    return fsync(file) == 0;
}

static void save(const struct choices *choices)
{
    char beside[PATH_SIZE + 16];
    struct buffer text = {0};
    bool good = false;
    int file;

    buffer_printf(&text, "%skey %s\n", first_line, choices->key);
    for (uint32_t i = 0; i < choices->len; i++)
        write_record(&text, &choices->record[i]);
    write_end(&text);
    make_folders(choices->path);
    snprintf(beside, sizeof(beside), "%s.XXXXXX", choices->path);
    file = mkostemp(beside, O_CLOEXEC);
    if (file >= 0) {
        good = write_all(file, &text);
        good = close(file) == 0 && good && rename(beside, choices->path) == 0;
        if (!good)
            unlink(beside);
    }
    if (!good)
        warn(choices, strerror(errno));
    buffer_release(&text);
}

void choices_close(struct choices *choices)
{
    if (!choices)
        return;
    if (choices->changed && choices->path[0])
        save(choices);
    free(choices->record);
    free(choices->key);
    free(choices);
}
