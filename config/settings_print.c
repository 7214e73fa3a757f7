/* settings_print.c: the table as a commented YAML file, and the values in force. */
#include "config/settings_table.h"

#include <string.h>

enum { LINE_CHARS_MAX = 96 };

/* Words of `text` as comment lines that begin with `indent` and `# `. */
static void print_comment(FILE *out, const char *indent, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (column > 0 && column + 1 + len > LINE_CHARS_MAX) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0)
            column = (size_t)fprintf(out, "%s#", indent);
        column += (size_t)fprintf(out, " %.*s", (int)len, text);
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* The text as YAML: bare where that means the same. */
static void print_value(FILE *out, const struct setting *row)
{
    bool text = row->type == SETTING_STRING || row->type == SETTING_NAME ||
                row->type == SETTING_PATH || row->type == SETTING_SHA256 ||
                row->type == SETTING_CHOICE;

    if (row->type == SETTING_LIST)
        fprintf(out, "[%s]", row->fallback);
    else if (text && (row->fallback[0] == '\0' || strpbrk(row->fallback, ":#") != NULL))
        fprintf(out, "\"%s\"", row->fallback);
    else
        fputs(row->fallback, out);
}

static void print_row(FILE *out, const struct setting *row, const char *key, const char *indent)
{
    bool secret = row->type == SETTING_SECRET;
    struct buffer comment = {0};

    buffer_add_text(&comment, row->sentence);
    if (secret) {
        buffer_add_text(&comment, " The path of a file that holds it in one line and that not "
                                  "everybody may read.");
    } else if (row->min != NULL) {
        buffer_printf(&comment, " %s to %s.", row->min, row->max);
    } else if (row->type == SETTING_CHOICE) {
        buffer_add_text(&comment, " Allowed is ");
        setting_add_allowed(row, &comment);
        buffer_add_text(&comment, ".");
    }
    print_comment(out, indent, comment.data);
    fprintf(out, "%s# %s%s: ", indent, key, secret ? "_file" : "");
    if (secret)
        fputs("\"\"", out);
    else
        print_value(out, row);
    fputc('\n', out);
    buffer_release(&comment);
}

static void print_tiers(FILE *out)
{
    fputs("\n# Model tiers: a list of maps with these keys.\n#\n", out);
    for (size_t i = 0; i < tier_rows.count; i++)
        print_row(out, &tier_rows.rows[i], tier_rows.rows[i].name, "#   ");
}

void settings_print_reference(FILE *out)
{
    const char *section = "";

    fputs("# mserve.yaml: every setting with its default. A line that is commented out shows the "
          "default.\n"
          "# The environment overrides this file: MSERVE_KAFKA_BROKERS for kafka.brokers.\n",
          out);
    for (size_t i = 0; i < settings_rows.count; i++) {
        const struct setting *row = &settings_rows.rows[i];
        const char *dot = strchr(row->name, '.');
        size_t len = (size_t)(dot - row->name);

        if (strncmp(section, row->name, len + 1) != 0)
            fprintf(out, "\n%.*s:\n", (int)len, row->name);
        section = row->name;
        print_row(out, row, dot + 1, "  ");
    }
    print_tiers(out);
}

static void print_rows(const struct setting_table *table, const void *target, const uint8_t *origin,
                       const char *indent, FILE *out)
{
    static const char *const origins[] = {"default", "file", "environment"};

    for (size_t i = 0; i < table->count; i++) {
        struct buffer value = {0};

        buffer_add_text(&value, "");
        setting_add_value(&table->rows[i], target, &value);
        if (strcmp(table->rows[i].name, "postgres.dsn") == 0 && setting_has_password(value.data)) {
            buffer_clear(&value);
            buffer_add_text(&value, "(set)");
        }
        fprintf(out, "%s%s = %s", indent, table->rows[i].name, value.len > 0 ? value.data : "\"\"");
        if (origin != NULL)
            fprintf(out, "  (%s)", origins[origin[i]]);
        fputc('\n', out);
        buffer_release(&value);
    }
}

void settings_print(const struct settings *settings, FILE *out)
{
    print_rows(&settings_rows, settings, settings->origin, "", out);
    for (uint32_t i = 0; i < settings->tier_count; i++) {
        fprintf(out, "tier %s\n", settings->tier[i].name);
        print_rows(&tier_rows, &settings->tier[i], NULL, "  ", out);
    }
}
