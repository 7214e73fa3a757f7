/* settings.cc: two tables, of numbers and of words, and the reading of key=value pairs by them. */
#include "kernels/cuda/emu/settings.cuh"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORDS_MAX = 6 };

enum word_key { WORD_ORDER, WORD_COPIES, WORD_QUEUE, WORD_BLAS, WORD_COUNT };
enum { ORDER_UNFAIR = SCHEDULE_COUNT, ORDER_BY_SEED };

static const struct number_row {
    const char *key;
    uint64_t emu_settings::*field;
    uint64_t least, most, usual;
} number_rows[] = {
    {"seed", &emu_settings::seed, 0, UINT64_MAX, 7},
    {"capability", &emu_settings::capability, 80, 90, 90},
    {"devices", &emu_settings::devices, 0, GPUS_MAX, 1},
    {"memory_mib", &emu_settings::memory_mib, 1, 1u << 20, 1024},
    {"processors", &emu_settings::processors, 1, 1024, 4},
    {"fault_at", &emu_settings::fault_at, 0, UINT64_MAX, 0},
    {"blas_clock", &emu_settings::blas_clock, 0, UINT64_MAX, 0},
};

static const struct word_row {
    const char *key;
    const char *word[WORDS_MAX]; /* value i is word i */
    uint32_t usual;
} word_rows[WORD_COUNT] = {
    {"order", {"fair", "first", "last", "random", "unfair", NULL}, ORDER_BY_SEED},
    {"copies", {"early", "late", NULL}, 1},
    {"queue", {"thread", "direct", NULL}, 0},
    {"blas", {"normal", "none", "hostile", NULL}, EMU_BLAS_NORMAL},
};

static __thread char said[320];

static bool refuse(const char **why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool refuse(const char **why, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(said, sizeof(said), format, list);
    va_end(list);
    *why = said;
    return false;
}

static bool read_number(const struct number_row *row, const char *value,
                        struct emu_settings *settings, const char **why)
{
    char *end;

    errno = 0;
    settings->*row->field = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 ||
        settings->*row->field < row->least || settings->*row->field > row->most)
        return refuse(why, "MSERVE_EMU: %s=%s: a number from %llu to %llu is wanted", row->key,
                      value, static_cast<unsigned long long>(row->least),
                      static_cast<unsigned long long>(row->most));
    return true;
}

static bool read_word(const struct word_row *row, const char *value, uint32_t *ret,
                      const char **why)
{
    char known[96] = "";

    for (uint32_t i = 0; row->word[i] != NULL; i++) {
        if (strcmp(row->word[i], value) == 0) {
            *ret = i;
            return true;
        }
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i > 0 ? ", " : "",
                 row->word[i]);
    }
    return refuse(why, "MSERVE_EMU: %s=%s: one of %s is wanted", row->key, value, known);
}

static bool read_pair(const char *key, const char *value, struct emu_settings *settings,
                      uint32_t words[WORD_COUNT], const char **why)
{
    char known[160] = "";

    for (const struct number_row &row : number_rows) {
        if (strcmp(row.key, key) == 0)
            return read_number(&row, value, settings, why);
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s, ", row.key);
    }
    for (uint32_t i = 0; i < WORD_COUNT; i++) {
        if (strcmp(word_rows[i].key, key) == 0)
            return read_word(&word_rows[i], value, &words[i], why);
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", word_rows[i].key,
                 i + 1 < WORD_COUNT ? ", " : "");
    }
    if (strcmp(key, "nvml") == 0) {
        snprintf(settings->nvml, sizeof(settings->nvml), "%s", value);
        return true;
    }
    return refuse(why, "MSERVE_EMU: there is no setting \"%s\"; there are %s, nvml", key, known);
}

static bool read_all(char *text, struct emu_settings *settings, uint32_t words[WORD_COUNT],
                     const char **why)
{
    char *rest = NULL;

    for (char *pair = strtok_r(text, ",", &rest); pair != NULL; pair = strtok_r(NULL, ",", &rest)) {
        char *value = strchr(pair, '=');
        if (value == NULL)
            return refuse(why, "MSERVE_EMU: \"%s\" is not key=value", pair);
        *value++ = '\0';
        if (!read_pair(pair, value, settings, words, why))
            return false;
    }
    return true;
}

static enum schedule order_of(uint32_t word, uint64_t seed)
{
    if (word == ORDER_BY_SEED)
        return static_cast<enum schedule>(seed % SCHEDULE_COUNT);
    if (word == ORDER_UNFAIR)
        return static_cast<enum schedule>(SCHEDULE_FIRST + seed % 3);
    return static_cast<enum schedule>(word);
}

bool emu_settings_read(struct emu_settings *settings, const char **why)
{
    const char *text = getenv("MSERVE_EMU");
    uint32_t words[WORD_COUNT];
    char copy[512];

    for (const struct number_row &row : number_rows)
        settings->*row.field = row.usual;
    for (uint32_t i = 0; i < WORD_COUNT; i++)
        words[i] = word_rows[i].usual;
    settings->nvml[0] = '\0';
    if (text != NULL && strlen(text) >= sizeof(copy))
        return refuse(why, "MSERVE_EMU is longer than %zu characters", sizeof(copy) - 1);
    strcpy(copy, text != NULL ? text : "");
    if (!read_all(copy, settings, words, why))
        return false;
    if (settings->capability != 80 && settings->capability != 86 && settings->capability != 89 &&
        settings->capability != 90)
        return refuse(why, "MSERVE_EMU: capability=%llu: 80, 86, 89 or 90 is wanted",
                      static_cast<unsigned long long>(settings->capability));
    settings->order = order_of(words[WORD_ORDER], settings->seed);
    settings->copies_late = words[WORD_COPIES] == 1;
    settings->direct = words[WORD_QUEUE] == 1;
    settings->blas = static_cast<enum emu_blas>(words[WORD_BLAS]);
    return true;
}
