/*
 * settings_table.h: the rows behind settings.h. Only config/settings*.c and their tests include it.
 *
 * To add a setting: a field in settings.h, a row in settings_table.c, and its lines in
 * config/mserve.yaml as settings_print_reference() prints them (a unit test compares).
 */
#ifndef MSERVE_CONFIG_SETTINGS_TABLE_H
#define MSERVE_CONFIG_SETTINGS_TABLE_H

#include "config/settings.h"

#include <stddef.h>

enum setting_type {
    SETTING_STRING,   /* const char *: any text without control characters */
    SETTING_NAME,     /* const char *: letters, digits, '.', '_', '-'; "" where the default is "" */
    SETTING_PATH,     /* const char * */
    SETTING_SECRET,   /* const char *: by x_file or the environment only */
    SETTING_SHA256,   /* const char *: 64 hexadecimal digits, or "" */
    SETTING_CHOICE,   /* const char *: one of `choices` */
    SETTING_BOOL,     /* bool: true or false */
    SETTING_U32,      /* uint32_t */
    SETTING_U64,      /* uint64_t */
    SETTING_F64,      /* double */
    SETTING_DURATION, /* uint64_t, milliseconds; written `30s` */
    SETTING_BYTES,    /* uint64_t; written `4MiB` */
    SETTING_LIST,     /* struct settings_list: names, in the environment with commas between */
};

enum setting_origin { SETTING_DEFAULT, SETTING_FILE, SETTING_ENVIRONMENT };

/* Default and limits are texts, as people write them: one form for table, file and messages. */
struct setting {
    const char *name;
    enum setting_type type;
    size_t offset; /* of the field in struct settings or struct settings_tier */
    const char *fallback;
    const char *min; /* of numbers, durations, bytes */
    const char *max;
    const char *choices; /* of CHOICE: "a|b|c" */
    const char *sentence;
};

struct setting_table {
    const struct setting *rows;
    size_t count;
};

extern const struct setting_table settings_rows; /* of struct settings */
extern const struct setting_table tier_rows;     /* of struct settings_tier */

/* The row of that name; NULL: none. */
const struct setting *setting_find(const struct setting_table *table, struct slice name);

/*
 * Reads `text` as the row's type into the row's field of `target`; texts are copied to the arena.
 * False when the row does not allow it; the field is then untouched.
 */
bool setting_set(const struct setting *row, struct slice text, struct arena *arena, void *target);

/* "a whole number from 1 to 100" */
void setting_add_allowed(const struct setting *row, struct buffer *buffer);

/* The field's value as text that setting_set() reads back. Not for secrets. */
void setting_add_value(const struct setting *row, const void *target, struct buffer *buffer);

/* Reads the file that holds a secret: one line, its newline dropped. Logs what is wrong. */
enum err setting_read_secret(const struct setting *row, const char *where, const char *path,
                             struct arena *arena, void *target);

/*
 * Reads a YAML file into the settings. Adds the number of problems, all of them logged, to
 * *problems.
 */
void settings_read_yaml(struct settings *settings, const char *path, struct slice text,
                        uint8_t *origin, unsigned *problems);

/* Sets every field of `target` to its row's default. */
void setting_set_defaults(const struct setting_table *table, struct arena *arena, void *target);

/* Whether a libpq connection string or URI seems to hold a password. */
bool setting_has_password(const char *dsn);

/* The name in the table that is nearest to what was typed, or NULL when none is near. */
const char *setting_nearest(const struct setting_table *table, const char *name);

#endif
