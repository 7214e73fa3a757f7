/*
 * fuzz_settings.c: whatever the bytes are, as a settings file they are refused, or every value lies
 * in its range; as a time, a size, an id or a word they are refused, or survive being written.
 */
#include "config/nearest.h"
#include "config/settings_table.h"
#include "config/units.h"
#include "config/uuid.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* Every value, as printed, is one that its row allows. */
static void check_rows(const struct setting_table *table, const void *target)
{
    char copy[sizeof(struct settings) + sizeof(struct settings_tier)];
    struct arena arena = {0};

    for (size_t i = 0; i < table->count; i++) {
        const struct setting *row = &table->rows[i];
        struct buffer text = {0};

        setting_add_value(row, target, &text);
        must(row->type == SETTING_SECRET || setting_set(row, buffer_slice(&text), &arena, copy));
        buffer_release(&text);
    }
    arena_release(&arena);
}

static void fuzz_file(struct slice text)
{
    struct settings settings = {0};
    uint8_t origin[256] = {0};
    unsigned problems = 0;

    setting_set_defaults(&settings_rows, &settings.arena, &settings);
    must(settings_rows.count <= sizeof(origin));
    settings_read_yaml(&settings, "fuzz.yaml", text, origin, &problems);
    check_rows(&settings_rows, &settings);
    for (uint32_t i = 0; i < settings.tier_count; i++)
        check_rows(&tier_rows, &settings.tier[i]);
    arena_release(&settings.arena);
}

static void fuzz_words(struct slice text)
{
    struct buffer written = {0};
    char word[UUID_TEXT_SIZE > UUID_BATCH_SIZE ? UUID_TEXT_SIZE : UUID_BATCH_SIZE];
    struct uuid uuid, same;
    uint64_t value, again;

    if (duration_parse(text, &value)) {
        duration_add(&written, value);
        must(duration_parse(buffer_slice(&written), &again) && again == value);
    }
    buffer_clear(&written);
    if (bytes_parse(text, &value)) {
        bytes_add(&written, value);
        must(bytes_parse(buffer_slice(&written), &again) && again == value);
    }
    if (uuid_parse_batch(text, &uuid)) {
        uuid_format_batch(uuid, word);
        must(uuid_parse_batch((struct slice){word, strlen(word)}, &same));
        must(uuid_equal(uuid, same));
    }
    buffer_clear(&written);
    buffer_add(&written, text.data, text.len);
    must(word_distance(written.data, written.data) == 0 || strlen(written.data) > 63);
    must(word_distance(written.data, "kafka") == word_distance("kafka", written.data));
    buffer_release(&written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {size > 0 ? (const char *)data : "", size};

    if (size < 64)
        fuzz_words(text);
    fuzz_file(text);
    return 0;
}
