/*
 * options.h: command lines from tables: parsing, --help, --version, and what a shell needs to
 * complete them.
 *
 * A program is one command or several sub-commands; each is a table of options and says which
 * arguments it takes. `--help` and `--version` are added to every table.
 *
 *   static struct { const char *tier; bool wait; } o;
 *   static const struct option rows[] = {
 *       {"tier", 't', OPTION_TEXT, "NAME", &o.tier, .sentence = "The tier that runs the job."},
 *       {"wait", 0, OPTION_FLAG, NULL, &o.wait, .sentence = "Stays until the job has ended."},
 *   };
 *   static const struct options_command command = {
 *       .name = "mserve-submit", .arguments = "FILE|-", .summary = "Puts …",
 *       .row = rows, .row_count = sizeof(rows) / sizeof(rows[0]),
 *       .arguments_min = 1, .arguments_max = 1, .files = true};
 *
 *   err = options_parse(NULL, &command, argc, argv, &rest);
 *   if (err || rest.served)
 *       return err_exit_status(err);
 */
#ifndef MSERVE_CONFIG_OPTIONS_H
#define MSERVE_CONFIG_OPTIONS_H

#include "config/errors.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
    OPTION_FLAG,     /* bool: takes no argument, sets true */
    OPTION_TEXT,     /* const char * */
    OPTION_PATH,     /* const char *; shells complete it as a file */
    OPTION_CHOICE,   /* const char *: one of `choices` */
    OPTION_U32,      /* uint32_t, min to max */
    OPTION_U64,      /* uint64_t, min to max */
    OPTION_F64,      /* double, finite and not negative */
    OPTION_DURATION, /* uint64_t, milliseconds: 24h, 1d12h */
    OPTION_BYTES,    /* uint64_t: 4MiB */
    OPTION_PAIRS,    /* struct option_pairs: key=value, may come again */
    OPTION_LIST,     /* struct option_list: may come again */
};

enum { OPTION_ITEMS_MAX = 64 };

/* Keys and values point into the command line; a key is everything before the first '='. */
struct option_pairs {
    struct {
        const char *key; /* key_len bytes */
        size_t key_len;
        const char *value;
    } item[OPTION_ITEMS_MAX];
    uint32_t count;
};

struct option_list {
    const char *item[OPTION_ITEMS_MAX];
    uint32_t count;
};

/* A target that the command line does not name keeps what it holds. */
struct option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum option_type type;
    const char *argument; /* "NAME" in the help text; NULL for flags */
    void *target;
    const char *sentence;
    const char *choices; /* of CHOICE: "a|b|c" */
    uint64_t min;        /* of U32, U64, DURATION, BYTES */
    uint64_t max;        /* of those, and how often PAIRS, LIST; 0: what the type holds */
};

struct options_command {
    const char *name;      /* "mserve-submit", or the word of a sub-command, "get" */
    const char *arguments; /* what follows the options in the usage line, or NULL */
    const char *summary;   /* one sentence */
    const char *details;   /* text at the end of --help, or NULL */
    const struct option *row;
    size_t row_count;
    uint32_t arguments_min; /* arguments that are no options */
    uint32_t arguments_max;
    bool files;          /* shells complete arguments as files */
    const char *choices; /* what the first argument must be: "list|drain"; NULL: anything */
};

struct options_program {
    const char *name;
    const char *summary;
    const struct options_command *command; /* sub-commands, or one with the program's name */
    size_t command_count;
};

/* What is left. `argument` points into argv, which is reordered. */
struct options_rest {
    char **argument;
    uint32_t count;
    bool served; /* --help or --version was printed: there is nothing more to do */
};

/*
 * Reads argv[1] .. argv[argc - 1]. Options and arguments may be mixed; `--` ends the options and
 * `-` is an argument. ERR_USAGE after one sentence in the log. For a sub-command, pass argv so that
 * argv[0] is its word; `program` (NULL: none) is then put before it in texts.
 */
enum err options_parse(const char *program, const struct options_command *command, int argc,
                       char **argv, struct options_rest *ret);

/*
 * The sub-command that argv[1] names. With --help, --version or `help` it prints them and sets
 * *ret to NULL. ERR_USAGE, in one sentence, when there is none of that name.
 */
enum err options_find_command(const struct options_program *program, int argc, char **argv,
                              const struct options_command **ret);

void options_print_help(const char *program, const struct options_command *command, FILE *out);
void options_print_commands(const struct options_program *program, FILE *out);

/* Completions for `shell`, one of bash, zsh and fish; ERR_USAGE in one sentence for others. */
enum err options_print_completion(const struct options_program *program, const char *shell,
                                  FILE *out);

#endif
