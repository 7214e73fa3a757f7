/*
 * options_shell.c: completions. Each shell gets functions of its own from the same tables: bash a
 * `case` over the word before, zsh the specs of _arguments, fish one `complete` an option.
 */
#include "config/log.h"
#include "config/options_help.h"

#include <string.h>

/* What every command has beside its table. */
static const struct option common[] = {
    {"help", 'h', OPTION_FLAG, NULL, NULL, .sentence = "Prints a help text."},
    {"version", 0, OPTION_FLAG, NULL, NULL, .sentence = "Prints the version."},
};

/* An identifier of a program's name: mserve_submit. */
static const char *identifier(const char *name, char out[64])
{
    size_t len = 0;

    for (; name[len] != '\0' && len < 63; len++)
        out[len] = name[len] == '-' ? '_' : name[len];
    out[len] = '\0';
    return out;
}

static bool has_commands(const struct options_program *program)
{
    return program->command_count > 1 || strcmp(program->command[0].name, program->name) != 0;
}

/* `text` for between single quotes of bash and zsh; `special` bytes get a backslash first. */
static void put_escaped(FILE *out, const char *text, const char *special)
{
    for (; *text != '\0'; text++) {
        if (strchr(special, *text) != NULL)
            fputc('\\', out);
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
}

static void print_choices(FILE *out, const char *choices)
{
    for (; *choices != '\0'; choices++)
        fputc(*choices == '|' ? ' ' : *choices, out);
}

/* The patterns of a row in a bash `case`: --tier|-t */
static void bash_pattern(FILE *out, const struct option *row)
{
    fprintf(out, "--%s", row->name);
    if (row->letter != 0)
        fprintf(out, "|-%c", row->letter);
}

static void bash_command(FILE *out, const struct options_command *command, const char *indent)
{
    fprintf(out, "%scase \"$prev\" in\n", indent);
    for (size_t i = 0; i < command->row_count; i++) {
        const struct option *row = &command->row[i];

        if (row->type == OPTION_FLAG)
            continue;
        fprintf(out, "%s", indent);
        bash_pattern(out, row);
        if (row->type == OPTION_PATH) {
            fputs(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", out);
        } else if (row->type == OPTION_CHOICE) {
            fputs(") COMPREPLY=($(compgen -W '", out);
            print_choices(out, row->choices);
            fputs("' -- \"$cur\")); return ;;\n", out);
        } else {
            fputs(") return ;;\n", out);
        }
    }
    fprintf(out, "%sesac\n%swords='", indent, indent);
    for (size_t i = 0; i < command->row_count; i++)
        fprintf(out, "--%s ", command->row[i].name);
    fprintf(out, "--help --version'\n%sfiles=%s\n", indent, command->files ? "yes" : "no");
    if (command->choices != NULL) {
        fprintf(out, "%s[ $arguments != 0 ] || first='", indent);
        print_choices(out, command->choices);
        fputs("'\n", out);
    }
}

static void bash_commands(FILE *out, const struct options_program *program)
{
    fputs("    local word command=\n"
          "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
          "        case \"$word\" in\n"
          "        -*) ;;\n"
          "        *) if [ \"$command\" ]; then arguments=1; else command=$word; fi ;;\n"
          "        esac\n"
          "    done\n"
          "    case \"$command\" in\n"
          "    '') COMPREPLY=($(compgen -W '",
          out);
    for (size_t i = 0; i < program->command_count; i++)
        fprintf(out, "%s ", program->command[i].name);
    fputs("--help --version' -- \"$cur\")); return ;;\n", out);
    for (size_t i = 0; i < program->command_count; i++) {
        fprintf(out, "    %s)\n", program->command[i].name);
        bash_command(out, &program->command[i], "        ");
        fputs("        ;;\n", out);
    }
    fputs("    esac\n", out);
}

static void print_bash(FILE *out, const struct options_program *program)
{
    char id[64];

    identifier(program->name, id);
    fprintf(out,
            "_%s()\n{\n"
            "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
            "    local words= files=no arguments=0 first=\n"
            "    COMPREPLY=()\n",
            id);
    if (has_commands(program))
        bash_commands(out, program);
    else
        bash_command(out, &program->command[0], "    ");
    fprintf(out,
            "    case \"$cur\" in\n"
            "    -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
            "    *) COMPREPLY=($(compgen -W \"$first\" -- \"$cur\"))\n"
            "       [ $files = no ] || COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n"
            "    esac\n"
            "}\n"
            "complete -o filenames -F _%s %s\n",
            id, program->name);
}

/* What _arguments takes, in one quoted word: {-t+,--tier=}'[sentence]:NAME:_files' */
static void zsh_option(FILE *out, const struct option *row, const char *indent)
{
    bool again = row->type == OPTION_PAIRS || row->type == OPTION_LIST;
    bool flag = row->type == OPTION_FLAG;

    fprintf(out, " \\\n%s    %s", indent, again ? "'*'" : "");
    if (row->letter != 0)
        fprintf(out, "{-%c%s,--%s%s}", row->letter, flag ? "" : "+", row->name, flag ? "" : "=");
    else
        fprintf(out, "--%s%s", row->name, flag ? "" : "=");
    fputs("'[", out);
    put_escaped(out, row->sentence, "[]:\\");
    fputc(']', out);
    if (!flag) {
        fputc(':', out);
        put_escaped(out, row->argument != NULL ? row->argument : "value", ":\\");
        fputc(':', out);
    }
    if (row->type == OPTION_CHOICE) {
        fputc('(', out);
        print_choices(out, row->choices);
        fputc(')', out);
    } else if (row->type == OPTION_PATH) {
        fputs("_files", out);
    }
    fputc('\'', out);
}

static void zsh_command(FILE *out, const struct options_command *command, const char *indent)
{
    fprintf(out, "%s_arguments -s", indent);
    for (size_t i = 0; i < command->row_count; i++)
        zsh_option(out, &command->row[i], indent);
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
        zsh_option(out, &common[i], indent);
    if (command->files)
        fprintf(out, " \\\n%s    '*:file:_files'", indent);
    if (command->choices != NULL) {
        fprintf(out, " \\\n%s    '1:what:(", indent);
        print_choices(out, command->choices);
        fputs(")'", out);
    }
    fputc('\n', out);
}

static void print_zsh(FILE *out, const struct options_program *program)
{
    char id[64];

    fprintf(out, "#compdef %s\n\n_%s()\n{\n", program->name, identifier(program->name, id));
    if (!has_commands(program)) {
        zsh_command(out, &program->command[0], "    ");
    } else {
        fputs("    if (( CURRENT == 2 )); then\n        local -a commands=(", out);
        for (size_t i = 0; i < program->command_count; i++) {
            fprintf(out, "\n            '%s:", program->command[i].name);
            put_escaped(out, program->command[i].summary, ":\\");
            fputc('\'', out);
        }
        fputs(")\n        _describe command commands\n        return\n    fi\n"
              "    local command=$words[2]\n"
              "    shift words\n    (( CURRENT-- ))\n    case $command in\n",
              out);
        for (size_t i = 0; i < program->command_count; i++) {
            fprintf(out, "    %s)\n", program->command[i].name);
            zsh_command(out, &program->command[i], "        ");
            fputs("        ;;\n", out);
        }
        fputs("    esac\n", out);
    }
    fprintf(out,
            "}\n\nif [ \"$funcstack[1]\" = _%s ]; then # as a file of $fpath\n"
            "    _%s \"$@\"\nelse # sourced\n    compdef _%s %s\nfi\n",
            id, id, id, program->name);
}

/* In fish a backslash escapes inside single quotes. */
static void fish_description(FILE *out, const char *text)
{
    fputs(" -d '", out);
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputs("'\n", out);
}

static void fish_option(FILE *out, const struct option *row, const char *start)
{
    fprintf(out, "%s -l %s", start, row->name);
    if (row->letter != 0)
        fprintf(out, " -s %c", row->letter);
    if (row->type == OPTION_PATH)
        fputs(" -r -F", out);
    else if (row->type != OPTION_FLAG)
        fputs(" -x", out);
    if (row->type == OPTION_CHOICE) {
        fputs(" -a '", out);
        print_choices(out, row->choices);
        fputc('\'', out);
    }
    fish_description(out, row->sentence);
}

static void fish_command(FILE *out, const struct options_command *command, const char *start)
{
    fprintf(out, "%s %s\n", start, command->files ? "-F" : "-f");
    for (size_t i = 0; i < command->row_count; i++)
        fish_option(out, &command->row[i], start);
    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
        fish_option(out, &common[i], start);
}

/* The first argument, as long as none of them was typed. */
static void fish_choices(FILE *out, const struct options_program *program,
                         const struct options_command *command)
{
    char id[64];

    if (command->choices == NULL)
        return;
    fprintf(out, "complete -c %s -n '__%s_command %s; and not ", program->name,
            identifier(program->name, id), command->name);
    fputs("__fish_seen_subcommand_from ", out);
    print_choices(out, command->choices);
    fputs("' -f -a '", out);
    print_choices(out, command->choices);
    fputs("'\n", out);
}

static void print_fish(FILE *out, const struct options_program *program)
{
    char start[256], id[64];

    identifier(program->name, id);
    if (has_commands(program)) /* the second word alone: that of `worker list` is no `list` */
        fprintf(out,
                "function __%s_command\n    set -l words (commandline -opc)\n"
                "    test \"$words[2]\" = $argv[1]\nend\n",
                id);
    for (size_t i = 0; i < program->command_count; i++) {
        const struct options_command *command = &program->command[i];

        snprintf(start, sizeof(start), "complete -c %s", program->name);
        if (has_commands(program)) {
            fprintf(out, "%s -n __fish_use_subcommand -f -a %s", start, command->name);
            fish_description(out, command->summary);
            fish_choices(out, program, command);
            snprintf(start, sizeof(start), "complete -c %s -n '__%s_command %s'", program->name, id,
                     command->name);
        }
        fish_command(out, command, start);
    }
}

enum err options_print_completion(const struct options_program *program, const char *shell,
                                  FILE *out)
{
    if (strcmp(shell, "bash") == 0)
        print_bash(out, program);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh(out, program);
    else if (strcmp(shell, "fish") == 0)
        print_fish(out, program);
    else
        return fail(ERR_USAGE, "Completions exist for bash, zsh and fish, not for \"%.60s\".",
                    shell);
    return ERR_OK;
}
