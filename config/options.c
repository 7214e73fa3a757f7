/* options.c: walks argv once; each option sets its target by its type. */
#include "config/options.h"
#include "config/buffer.h"
#include "config/log.h"
#include "config/nearest.h"
#include "config/options_help.h"
#include "config/units.h"

#include <stdlib.h>
#include <string.h>

/* argv on the way: `at` is the next to read, `kept` arguments stand at the front. */
struct walk {
    const char *program; /* "mserve get", for sentences */
    const struct options_command *command;
    int argc;
    char **argv;
    int at;
    uint32_t kept;
    bool served;
};

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static const struct option *find_letter(const struct options_command *command, char letter)
{
    for (size_t i = 0; i < command->row_count; i++)
        if (command->row[i].letter != 0 && command->row[i].letter == letter)
            return &command->row[i];
    return NULL;
}

static const struct option *find_name(const struct options_command *command, struct slice name)
{
    for (size_t i = 0; i < command->row_count; i++)
        if (strlen(command->row[i].name) == name.len &&
            memcmp(command->row[i].name, name.data, name.len) == 0)
            return &command->row[i];
    return NULL;
}

static enum err unknown_option(const struct walk *walk, const char *typed)
{
    const char *best = "help";
    size_t best_distance = word_distance(typed, best);

    for (size_t i = 0; i < walk->command->row_count; i++) {
        size_t distance = word_distance(typed, walk->command->row[i].name);

        if (distance < best_distance) {
            best_distance = distance;
            best = walk->command->row[i].name;
        }
    }
    if (word_is_near(typed, best, best_distance))
        return fail(ERR_USAGE, "There is no option --%.60s; did you mean --%s?", typed, best);
    return fail(ERR_USAGE, "There is no option --%.60s; %s --help shows them all.", typed,
                walk->program);
}

static bool read_whole(const char *text, uint64_t *ret)
{
    return text[strspn(text, "0123456789")] == '\0' && bytes_parse(text_of(text), ret);
}

static bool set_number(const struct option *row, const char *text)
{
    uint64_t type_max = row->type == OPTION_U32 ? UINT32_MAX : UINT64_MAX;
    uint64_t max = row->max > 0 ? row->max : type_max;
    uint64_t value;
    bool read;

    if (row->type == OPTION_DURATION)
        read = duration_parse(text_of(text), &value);
    else if (row->type == OPTION_BYTES)
        read = bytes_parse(text_of(text), &value);
    else
        read = read_whole(text, &value);
    if (!read || value < row->min || value > max)
        return false;
    if (row->type == OPTION_U32)
        *(uint32_t *)row->target = (uint32_t)value;
    else
        *(uint64_t *)row->target = value;
    return true;
}

static bool set_f64(const struct option *row, const char *text)
{
    char *end;
    double value;

    if (text[0] < '0' || text[0] > '9' || text[strspn(text, "0123456789.eE+-")] != '\0')
        return false;
    value = strtod(text, &end);
    if (*end != '\0' || value > 1e300)
        return false;
    *(double *)row->target = value;
    return true;
}

static bool add_pair(const struct option *row, const char *text)
{
    struct option_pairs *pairs = row->target;
    const char *equals = strchr(text, '=');

    if (equals == NULL || equals == text || pairs->count == options_items_max(row))
        return false;
    pairs->item[pairs->count].key = text;
    pairs->item[pairs->count].key_len = (size_t)(equals - text);
    pairs->item[pairs->count].value = equals + 1;
    pairs->count++;
    return true;
}

static bool set_target(const struct option *row, const char *text)
{
    struct option_list *list = row->target;

    switch (row->type) {
    case OPTION_FLAG:
        *(bool *)row->target = true;
        return true;
    case OPTION_CHOICE:
        if (!options_is_choice(row->choices, text))
            return false;
        *(const char **)row->target = text;
        return true;
    case OPTION_TEXT:
    case OPTION_PATH:
        *(const char **)row->target = text;
        return true;
    case OPTION_F64:
        return set_f64(row, text);
    case OPTION_PAIRS:
        return add_pair(row, text);
    case OPTION_LIST:
        if (list->count == options_items_max(row))
            return false;
        list->item[list->count++] = text;
        return true;
    default:
        return set_number(row, text);
    }
}

static enum err set_option(const struct option *row, const char *text)
{
    struct buffer allowed = {0};

    if (set_target(row, text))
        return ERR_OK;
    options_add_allowed(row, &allowed);
    fail(ERR_USAGE, "--%s is \"%.60s\" but must be %s.", row->name, text, allowed.data);
    buffer_release(&allowed);
    return ERR_USAGE;
}

/* The next word of argv as the option's argument. */
static enum err take_argument(struct walk *walk, const struct option *row, const char **ret)
{
    if (walk->at == walk->argc)
        return fail(ERR_USAGE, "--%s needs %s behind it.", row->name,
                    row->argument != NULL ? row->argument : "a value");
    *ret = walk->argv[walk->at++];
    return ERR_OK;
}

/* --help and --version: every command has them. */
static bool serve(struct walk *walk, const char *name)
{
    if (strcmp(name, "help") == 0)
        options_print_help(walk->program, walk->command, stdout);
    else if (strcmp(name, "version") == 0)
        options_print_version(walk->program, stdout);
    else
        return false;
    walk->served = true;
    return true;
}

/* `word` is what follows the two dashes: name or name=value. */
static enum err read_long(struct walk *walk, const char *word)
{
    size_t len = strcspn(word, "=");
    const struct option *row = find_name(walk->command, (struct slice){word, len});
    const char *text = word[len] == '=' ? word + len + 1 : NULL;
    char typed[64];
    enum err err = ERR_OK;

    if (row == NULL && serve(walk, word))
        return ERR_OK;
    if (row == NULL) {
        snprintf(typed, sizeof(typed), "%.*s", (int)(len < 63 ? len : 63), word);
        return unknown_option(walk, typed);
    }
    if (row->type == OPTION_FLAG && text != NULL)
        return fail(ERR_USAGE, "--%s takes no value.", row->name);
    if (row->type != OPTION_FLAG && text == NULL)
        err = take_argument(walk, row, &text);
    return err ? err : set_option(row, text);
}

/* `letters` are flags, the last of which may take the rest, or the next word, as its argument. */
static enum err read_letters(struct walk *walk, const char *letters)
{
    while (*letters != '\0') {
        const struct option *row = find_letter(walk->command, *letters);
        const char *text = letters + 1;
        enum err err = ERR_OK;

        if (row == NULL && *letters == 'h' && serve(walk, "help"))
            return ERR_OK;
        if (row == NULL)
            return fail(ERR_USAGE, "There is no option -%c; %s --help shows them all.", *letters,
                        walk->program);
        if (row->type == OPTION_FLAG) {
            set_target(row, NULL);
            letters++;
            continue;
        }
        if (*text == '\0')
            err = take_argument(walk, row, &text);
        return err ? err : set_option(row, text);
    }
    return ERR_OK;
}

/* The first argument is none of those that the command knows, or there is none. */
static enum err refuse_choice(const struct walk *walk)
{
    struct option row = {.type = OPTION_CHOICE, .choices = walk->command->choices};
    struct buffer allowed = {0};
    enum err rc;

    options_add_allowed(&row, &allowed);
    if (walk->kept == 0)
        rc = fail(ERR_USAGE, "%s needs %s; %s --help says more.", walk->command->name, allowed.data,
                  walk->program);
    else
        rc = fail(ERR_USAGE, "\"%.60s\" must be %s; %s --help says more.", walk->argv[1],
                  allowed.data, walk->program);
    buffer_release(&allowed);
    return rc;
}

static enum err check_count(const struct walk *walk)
{
    const struct options_command *command = walk->command;

    if (command->choices != NULL &&
        (walk->kept == 0 || !options_is_choice(command->choices, walk->argv[1])))
        return refuse_choice(walk);
    if (walk->kept < command->arguments_min)
        return fail(ERR_USAGE, "%s is missing; %s --help says more.",
                    command->arguments != NULL ? command->arguments : "An argument", walk->program);
    if (walk->kept > command->arguments_max)
        return fail(ERR_USAGE, "\"%.60s\" is one argument too many; %s --help says more.",
                    walk->argv[1 + command->arguments_max], walk->program);
    return ERR_OK;
}

enum err options_parse(const char *program, const struct options_command *command, int argc,
                       char **argv, struct options_rest *ret)
{
    char name[128];
    struct walk walk = {name, command, argc, argv, 1, 0, false};
    bool ended = false;
    enum err err = ERR_OK;

    snprintf(name, sizeof(name), "%s%s%s", program != NULL ? program : "",
             program != NULL ? " " : "", command->name);
    while (!err && !walk.served && walk.at < argc) {
        char *word = argv[walk.at++];

        if (ended || word[0] != '-' || word[1] == '\0')
            argv[1 + walk.kept++] = word;
        else if (strcmp(word, "--") == 0)
            ended = true;
        else if (word[1] == '-')
            err = read_long(&walk, word + 2);
        else
            err = read_letters(&walk, word + 1);
    }
    if (!err && !walk.served)
        err = check_count(&walk);
    if (!err)
        *ret = (struct options_rest){argv + (argc > 0), walk.kept, walk.served};
    return err;
}

enum err options_find_command(const struct options_program *program, int argc, char **argv,
                              const struct options_command **ret)
{
    const char *typed = argc > 1 ? argv[1] : "";
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    for (size_t i = 0; i < program->command_count; i++) {
        size_t distance = word_distance(typed, program->command[i].name);

        if (distance < best_distance) {
            best_distance = distance;
            best = program->command[i].name;
            *ret = &program->command[i];
        }
    }
    if (best != NULL && strcmp(typed, best) == 0)
        return ERR_OK;
    *ret = NULL;
    if (options_is_choice("help|--help|-h", typed)) {
        options_print_commands(program, stdout);
        return ERR_OK;
    }
    if (strcmp(typed, "--version") == 0) {
        options_print_version(program->name, stdout);
        return ERR_OK;
    }
    if (typed[0] == '\0')
        return fail(ERR_USAGE, "A command is missing; %s --help shows them all.", program->name);
    if (typed[0] == '-')
        return fail(ERR_USAGE,
                    "%.60s has no command before it: %s COMMAND OPTIONS; %s --help shows all.",
                    typed, program->name, program->name);
    if (best != NULL && word_is_near(typed, best, best_distance))
        return fail(ERR_USAGE, "There is no command \"%.60s\"; did you mean %s?", typed, best);
    return fail(ERR_USAGE, "There is no command \"%.60s\"; %s --help shows them all.", typed,
                program->name);
}
