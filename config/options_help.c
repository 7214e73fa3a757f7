/* options_help.c: the help text in two columns, and what a value must be. */
#include "config/options_help.h"
#include "config/units.h"

#include <string.h>

enum { LEFT_CHARS = 28, LINE_CHARS = 80 };

bool options_is_choice(const char *choices, const char *text)
{
    while (*choices != '\0') {
        size_t len = strcspn(choices, "|");

        if (len == strlen(text) && memcmp(choices, text, len) == 0)
            return true;
        choices += len + (choices[len] == '|');
    }
    return false;
}

uint32_t options_items_max(const struct option *row)
{
    return row->max > 0 && row->max < OPTION_ITEMS_MAX ? (uint32_t)row->max : OPTION_ITEMS_MAX;
}

static void add_limit(const struct option *row, uint64_t limit, struct buffer *buffer)
{
    if (row->type == OPTION_DURATION)
        duration_add(buffer, limit);
    else if (row->type == OPTION_BYTES)
        bytes_add(buffer, limit);
    else
        buffer_add_u64(buffer, limit);
}

void options_add_allowed(const struct option *row, struct buffer *buffer)
{
    static const char *const kinds[] = {
        [OPTION_FLAG] = "without a value",
        [OPTION_TEXT] = "a text",
        [OPTION_PATH] = "a path",
        [OPTION_CHOICE] = "one of ",
        [OPTION_U32] = "a whole number",
        [OPTION_U64] = "a whole number",
        [OPTION_F64] = "a number that is not negative",
        [OPTION_DURATION] = "a time such as 90s, 24h or 1d12h",
        [OPTION_BYTES] = "a size such as 64KiB or 4MiB",
        [OPTION_PAIRS] = "key=value, at most ",
        [OPTION_LIST] = "given at most ",
    };
    uint64_t max = row->max == 0 && row->type == OPTION_U32 ? UINT32_MAX : row->max;

    buffer_add_text(buffer, kinds[row->type]);
    if (row->type == OPTION_PAIRS || row->type == OPTION_LIST) {
        buffer_printf(buffer, "%u times", options_items_max(row));
        return;
    }
    if (row->type == OPTION_CHOICE)
        for (const char *at = row->choices; *at != '\0'; at++) {
            if (*at == '|')
                buffer_add_text(buffer, strchr(at + 1, '|') != NULL ? ", " : " or ");
            else
                buffer_add_byte(buffer, *at);
        }
    if (row->min > 0 || max > 0) {
        buffer_add_text(buffer, " from ");
        add_limit(row, row->min, buffer);
        buffer_add_text(buffer, max > 0 ? " to " : " on");
        if (max > 0)
            add_limit(row, max, buffer);
    }
}

/* Words from column `column` on, wrapped; the cursor stands at `at`. */
static void print_wrapped(FILE *out, const char *text, size_t at, size_t column)
{
    bool begins_line = true;

    while (*text != '\0') {
        size_t len = strcspn(text, " ");

        if (at > column && at + 1 + len > LINE_CHARS) {
            fputc('\n', out);
            at = 0;
            begins_line = true;
        }
        if (at < column) {
            fprintf(out, "%*s", (int)(column - at), "");
            at = column;
        } else if (!begins_line) {
            fputc(' ', out);
            at++;
        }
        fwrite(text, 1, len, out);
        at += len;
        begins_line = false;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* One line of two columns; a left side that is too long gets a line of its own. */
static void print_row(FILE *out, const char *left, const char *right)
{
    size_t at = (size_t)fprintf(out, "  %s", left);

    if (at + 2 > LEFT_CHARS) {
        fputc('\n', out);
        at = 0;
    }
    print_wrapped(out, right, at, LEFT_CHARS);
}

static void print_option(FILE *out, const struct option *row)
{
    struct buffer left = {0}, right = {0};

    if (row->letter != 0)
        buffer_printf(&left, "-%c, ", row->letter);
    else
        buffer_add_text(&left, "    ");
    buffer_printf(&left, "--%s", row->name);
    if (row->type != OPTION_FLAG)
        buffer_printf(&left, " %s", row->argument != NULL ? row->argument : "VALUE");
    buffer_add_text(&right, row->sentence);
    if (row->type == OPTION_CHOICE) {
        buffer_add_text(&right, " Must be ");
        options_add_allowed(row, &right);
        buffer_add_byte(&right, '.');
    }
    print_row(out, left.data, right.data);
    buffer_release(&left);
    buffer_release(&right);
}

void options_print_help(const char *program, const struct options_command *command, FILE *out)
{
    static const struct option common[] = {
        {"help", 'h', OPTION_FLAG, NULL, NULL, .sentence = "Prints this text."},
        {"version", 0, OPTION_FLAG, NULL, NULL, .sentence = "Prints the version."},
    };

    fprintf(out, "Usage: %s [options]%s%s\n\n", program, command->arguments != NULL ? " " : "",
            command->arguments != NULL ? command->arguments : "");
    print_wrapped(out, command->summary, 0, 0);
    fputs("\nOptions:\n", out);
    for (size_t i = 0; i < command->row_count; i++)
        print_option(out, &command->row[i]);
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
        print_option(out, &common[i]);
    if (command->details != NULL)
        fprintf(out, "\n%s\n", command->details);
}

void options_print_commands(const struct options_program *program, FILE *out)
{
    fprintf(out, "Usage: %s COMMAND [options]\n\n", program->name);
    print_wrapped(out, program->summary, 0, 0);
    fputs("\nCommands:\n", out);
    for (size_t i = 0; i < program->command_count; i++)
        print_row(out, program->command[i].name, program->command[i].summary);
    fprintf(out, "\n%s COMMAND --help says more about one.\n", program->name);
}

void options_print_version(const char *program, FILE *out)
{
    fprintf(out, "%.*s %s\n", (int)strcspn(program, " "), program, MSERVE_VERSION);
}
