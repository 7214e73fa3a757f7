/* settings_value.c: one setting: its text to a value, its value to text, and what is allowed. */
#include "config/json.h"
#include "config/log.h"
#include "config/settings_table.h"
#include "config/units.h"
#include "config/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_BYTES_MAX = 4096, NAME_BYTES_MAX = 128 };

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static bool is_name(struct slice text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

    for (size_t i = 0; i < text.len; i++)
        if (memchr(allowed, text.data[i], sizeof(allowed) - 1) == NULL)
            return false;
    return text.len <= NAME_BYTES_MAX;
}

static bool is_sha256(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (memchr("0123456789abcdef", text.data[i], 16) == NULL)
            return false;
    return text.len == 64;
}

/* Texts go into connection strings and C strings: no control characters, NUL among them. */
static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    return text.len <= TEXT_BYTES_MAX && utf8_valid(text);
}

static bool is_choice(const char *choices, struct slice text)
{
    while (*choices != '\0') {
        size_t len = strcspn(choices, "|");

        if (len == text.len && memcmp(choices, text.data, len) == 0)
            return true;
        choices += len + (choices[len] == '|');
    }
    return false;
}

static bool is_text(const struct setting *row, struct slice text)
{
    switch (row->type) {
    case SETTING_NAME:
        return is_name(text) && (text.len > 0 || row->fallback[0] == '\0');
    case SETTING_SHA256:
        return text.len == 0 || is_sha256(text);
    case SETTING_CHOICE:
        return is_choice(row->choices, text) || (text.len == 0 && row->fallback[0] == '\0');
    default:
        return is_plain(text);
    }
}

/* Whole numbers, times and sizes are all counts: of one, of milliseconds, of bytes. */
static bool read_count(enum setting_type type, struct slice text, uint64_t *ret)
{
    if (type == SETTING_DURATION)
        return duration_parse(text, ret);
    if (type == SETTING_BYTES)
        return bytes_parse(text, ret);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return bytes_parse(text, ret);
}

static bool set_count(const struct setting *row, struct slice text, void *field)
{
    uint64_t value, min, max;

    if (!read_count(row->type, text, &value) || !read_count(row->type, text_of(row->min), &min) ||
        !read_count(row->type, text_of(row->max), &max) || value < min || value > max)
        return false;
    if (row->type == SETTING_U32)
        *(uint32_t *)field = (uint32_t)value;
    else
        *(uint64_t *)field = value;
    return true;
}

/* Decimal digits only: strtod alone would also take "nan" and "0x1p3". */
static bool set_f64(const struct setting *row, struct slice text, double *field)
{
    char copy[48];
    char *end;
    double value;

    if (text.len == 0 || text.len >= sizeof(copy) || text.data[0] < '0' || text.data[0] > '9')
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (memchr("0123456789.eE+-", text.data[i], 15) == NULL)
            return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    value = strtod(copy, &end);
    if (*end != '\0' || !(value >= strtod(row->min, NULL)) || !(value <= strtod(row->max, NULL)))
        return false;
    *field = value;
    return true;
}

static bool set_list(struct slice text, struct arena *arena, struct settings_list *list)
{
    const char *item[SETTINGS_LIST_MAX];
    uint32_t count = 0;

    while (text.len > 0) {
        const char *comma = memchr(text.data, ',', text.len);
        size_t len = comma != NULL ? (size_t)(comma - text.data) : text.len;
        struct slice one = {text.data, len};

        if (count == SETTINGS_LIST_MAX || len == 0 || !is_plain(one))
            return false;
        item[count++] = arena_copy(arena, one.data, one.len);
        text.data += len + (comma != NULL);
        text.len -= len + (comma != NULL);
    }
    list->item = arena_zalloc(arena, count, sizeof(list->item[0]));
    memcpy(list->item, item, count * sizeof(list->item[0]));
    list->count = count;
    return true;
}

bool setting_set(const struct setting *row, struct slice text, struct arena *arena, void *target)
{
    void *field = (char *)target + row->offset;

    switch (row->type) {
    case SETTING_BOOL:
        if (!is_choice("true|false", text))
            return false;
        *(bool *)field = text.len == 4;
        return true;
    case SETTING_U32:
    case SETTING_U64:
    case SETTING_DURATION:
    case SETTING_BYTES:
        return set_count(row, text, field);
    case SETTING_F64:
        return set_f64(row, text, field);
    case SETTING_LIST:
        return set_list(text, arena, field);
    default:
        if (!is_text(row, text))
            return false;
        *(const char **)field = arena_copy(arena, text.data, text.len);
        return true;
    }
}

void setting_set_defaults(const struct setting_table *table, struct arena *arena, void *target)
{
    for (size_t i = 0; i < table->count; i++)
        if (!setting_set(&table->rows[i], text_of(table->rows[i].fallback), arena, target))
            abort(); /* a row whose default it does not allow: the unit test finds it first */
}

void setting_add_allowed(const struct setting *row, struct buffer *buffer)
{
    static const char *const kinds[] = {
        [SETTING_STRING] = "a text of at most 4096 bytes without control characters",
        [SETTING_NAME] = "a name of at most 128 letters, digits, '.', '_' and '-'",
        [SETTING_PATH] = "a path of at most 4096 bytes without control characters",
        [SETTING_SECRET] = "a text of at most 4096 bytes without control characters",
        [SETTING_SHA256] = "64 hexadecimal digits in lower case",
        [SETTING_CHOICE] = "one of ",
        [SETTING_BOOL] = "true or false",
        [SETTING_U32] = "a whole number",
        [SETTING_U64] = "a whole number",
        [SETTING_F64] = "a number",
        [SETTING_DURATION] = "a time such as 30s or 1h30m",
        [SETTING_BYTES] = "a size such as 64KiB or 4MiB",
        [SETTING_LIST] = "a list of at most 64 names",
    };

    buffer_add_text(buffer, kinds[row->type]);
    if (row->min != NULL)
        buffer_printf(buffer, " from %s to %s", row->min, row->max);
    for (const char *at = row->choices; at != NULL && *at != '\0'; at++) {
        if (*at == '|')
            buffer_add_text(buffer, strchr(at + 1, '|') != NULL ? ", " : " or ");
        else
            buffer_add_byte(buffer, *at);
    }
    if (row->type == SETTING_CHOICE && row->fallback[0] == '\0')
        buffer_add_text(buffer, ", or empty");
}

bool setting_has_password(const char *dsn)
{
    const char *scheme = strstr(dsn, "://");
    const char *user = scheme != NULL ? scheme + 3 : "";
    size_t user_len = strcspn(user, "@/?");

    return strcasestr(dsn, "password") != NULL ||
           (user[user_len] == '@' && memchr(user, ':', user_len) != NULL);
}

void setting_add_value(const struct setting *row, const void *target, struct buffer *buffer)
{
    const void *field = (const char *)target + row->offset;
    const struct settings_list *list = field;

    switch (row->type) {
    case SETTING_BOOL:
        buffer_add_text(buffer, *(const bool *)field ? "true" : "false");
        break;
    case SETTING_U32:
        buffer_add_u64(buffer, *(const uint32_t *)field);
        break;
    case SETTING_U64:
        buffer_add_u64(buffer, *(const uint64_t *)field);
        break;
    case SETTING_F64:
        json_write_f64(buffer, *(const double *)field);
        break;
    case SETTING_DURATION:
        duration_add(buffer, *(const uint64_t *)field);
        break;
    case SETTING_BYTES:
        bytes_add(buffer, *(const uint64_t *)field);
        break;
    case SETTING_LIST:
        for (uint32_t i = 0; i < list->count; i++)
            buffer_printf(buffer, "%s%s", i > 0 ? "," : "", list->item[i]);
        break;
    case SETTING_SECRET:
        buffer_add_text(buffer, **(const char *const *)field != '\0' ? "(set)" : "(not set)");
        break;
    default:
        buffer_add_text(buffer, *(const char *const *)field);
    }
}

static enum err read_line(int fd, const char *where, const char *path, char *line, size_t size,
                          size_t *ret_len)
{
    size_t len = 0;
    ssize_t got;

    while (len < size && (got = read(fd, line + len, size - len)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(ERR_SETTINGS, "%s: %s cannot be read: %s.", where, path, strerror(errno));
        len += (size_t)got;
    }
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    *ret_len = len;
    return ERR_OK;
}

enum err setting_read_secret(const struct setting *row, const char *where, const char *path,
                             struct arena *arena, void *target)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char line[TEXT_BYTES_MAX + 2];
    struct stat stat;
    size_t len = 0;
    enum err err = ERR_OK;

    if (fd < 0 || fstat(fd, &stat) != 0)
        err = fail(ERR_SETTINGS, "%s: %s cannot be opened: %s.", where, path, strerror(errno));
    else if ((stat.st_mode & (S_IROTH | S_IWOTH)) != 0)
        err = fail(ERR_SETTINGS,
                   "%s: %s holds a secret and may be read or written by everybody; "
                   "chmod o-rw %s.",
                   where, path, path);
    else
        err = read_line(fd, where, path, line, sizeof(line), &len);
    if (!err && (len == 0 || !setting_set(row, (struct slice){line, len}, arena, target)))
        err = fail(ERR_SETTINGS, "%s: %s must hold one line of 1 to %d bytes and nothing else.",
                   where, path, TEXT_BYTES_MAX);
    if (fd >= 0)
        close(fd);
    explicit_bzero(line, sizeof(line));
    return err;
}

const struct setting *setting_find(const struct setting_table *table, struct slice name)
{
    for (size_t i = 0; i < table->count; i++)
        if (strlen(table->rows[i].name) == name.len &&
            memcmp(table->rows[i].name, name.data, name.len) == 0)
            return &table->rows[i];
    return NULL;
}
