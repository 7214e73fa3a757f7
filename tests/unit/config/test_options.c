/* test_options.c: command lines read, refused in a sentence, explained, and completed. */
#include "config/log.h"
#include "config/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    const char *tier;
    const char *input;
    const char *mode;
    bool wait;
    bool quiet;
    uint32_t priority;
    uint64_t window_ms;
    uint64_t bytes;
    double price;
    struct option_pairs metadata;
    struct option_list tags;
} o;

static const struct option rows[] = {
    {"tier", 't', OPTION_TEXT, "NAME", &o.tier, .sentence = "The tier: it runs the [whole] job."},
    {"input", 'i', OPTION_PATH, "FILE", &o.input, .sentence = "The user's file."},
    {"on-invalid", 0, OPTION_CHOICE, "WHAT", &o.mode, .sentence = "What a bad line does.",
     .choices = "refuse|skip"},
    {"wait", 'w', OPTION_FLAG, NULL, &o.wait, .sentence = "Stays until the job has ended."},
    {"quiet", 'q', OPTION_FLAG, NULL, &o.quiet,
     .sentence = "Says nothing, and to say so it takes a sentence that is longer than a line."},
    {"priority", 0, OPTION_U32, "N", &o.priority, .sentence = "Higher goes first.", .max = 9},
    {"completion-window", 0, OPTION_DURATION, "TIME", &o.window_ms, .sentence = "Finish by.",
     .min = 1000},
    {"bytes", 0, OPTION_BYTES, "SIZE", &o.bytes, .sentence = "A size."},
    {"price", 0, OPTION_F64, "N", &o.price, .sentence = "A price."},
    {"metadata", 'm', OPTION_PAIRS, "KEY=VALUE", &o.metadata, .sentence = "Kept with the job.",
     .max = 3},
    {"tag", 0, OPTION_LIST, "TAG", &o.tags, .sentence = "A tag."},
};

static const struct options_command command = {
    .name = "mserve-submit",
    .arguments = "FILE|-",
    .summary = "Validates a file of requests and puts it on the queue.",
    .details = "More text.",
    .row = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
    .arguments_min = 1,
    .arguments_max = 2,
    .files = true,
};

static const struct options_command commands[] = {
    {.name = "get",
     .summary = "Shows a job's state.",
     .row = rows,
     .row_count = 3,
     .arguments_max = 1},
    {.name = "results",
     .summary = "Writes results.",
     .row = rows + 3,
     .row_count = 2,
     .arguments_max = 1,
     .files = true},
    {.name = "worker",
     .summary = "Looks after workers.",
     .row = rows,
     .row_count = 1,
     .arguments_max = 2,
     .choices = "list|drain"},
};

static const struct options_program program = {"mserve", "Looks at jobs.", commands, 3};
static const struct options_program single = {"mserve-submit", "Submits.", &command, 1};

static char said[2048];

/* Runs `call` with what goes to `fd` caught in `said`. */
#define CATCH(fd, call)                                                                            \
    do {                                                                                           \
        FILE *caught = tmpfile();                                                                  \
        int saved = dup(fd);                                                                       \
        size_t len;                                                                                \
                                                                                                   \
        assert_true(caught != NULL && saved >= 0);                                                 \
        fflush(stdout);                                                                            \
        dup2(fileno(caught), fd);                                                                  \
        call;                                                                                      \
        fflush(stdout);                                                                            \
        dup2(saved, fd);                                                                           \
        close(saved);                                                                              \
        rewind(caught);                                                                            \
        len = fread(said, 1, sizeof(said) - 1, caught);                                            \
        said[len] = '\0';                                                                          \
        fclose(caught);                                                                            \
    } while (0)

/* Splits at blanks and parses, as a shell would call the program. */
static enum err parse(const char *line, struct options_rest *ret)
{
    static char copy[512];
    char *argv[64] = {NULL};
    static char *kept[64];
    int argc = 0;
    enum err err;

    memset(&o, 0, sizeof(o));
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        argv[argc++] = word;
    CATCH(STDERR_FILENO, err = options_parse(NULL, &command, argc, argv, ret));
    memcpy(kept, argv, sizeof(argv));
    if (!err)
        ret->argument = kept + 1;
    return err;
}

static void test_options_and_arguments_may_be_mixed(void **state)
{
    struct options_rest rest;

    (void)state;
    assert_int_equal(parse("p one --tier big -wq -ia.jsonl --metadata a=b=c -m d= two "
                           "--on-invalid=skip --priority 9 --completion-window 1d12h --bytes 4MiB "
                           "--price 2.5 --tag x --tag y",
                           &rest),
                     ERR_OK);
    assert_false(rest.served);
    assert_int_equal(rest.count, 2);
    assert_string_equal(rest.argument[0], "one");
    assert_string_equal(rest.argument[1], "two");
    assert_string_equal(o.tier, "big");
    assert_string_equal(o.input, "a.jsonl");
    assert_string_equal(o.mode, "skip");
    assert_true(o.wait && o.quiet);
    assert_int_equal(o.priority, 9);
    assert_int_equal(o.window_ms, 129600000);
    assert_int_equal(o.bytes, 4 << 20);
    assert_true(o.price > 2.4 && o.price < 2.6);
    assert_int_equal(o.metadata.count, 2);
    assert_memory_equal(o.metadata.item[0].key, "a", o.metadata.item[0].key_len);
    assert_string_equal(o.metadata.item[0].value, "b=c");
    assert_string_equal(o.metadata.item[1].value, "");
    assert_int_equal(o.tags.count, 2);
    assert_string_equal(o.tags.item[1], "y");
}

/* `-` is standard input, and after `--` even `-x` is a file. */
static void test_dashes_can_be_arguments(void **state)
{
    struct options_rest rest;

    (void)state;
    assert_int_equal(parse("p - -- -x", &rest), ERR_OK);
    assert_int_equal(rest.count, 2);
    assert_string_equal(rest.argument[0], "-");
    assert_string_equal(rest.argument[1], "-x");
}

static void test_bad_lines_are_refused_in_a_sentence(void **state)
{
    static const struct {
        const char *line;
        const char *want;
    } cases[] = {
        {"p", "FILE|- is missing; mserve-submit --help says more."},
        {"p a b c", "\"c\" is one argument too many"},
        {"p --teir x", "There is no option --teir; did you mean --tier?"},
        {"p --hlep", "did you mean --help?"},
        {"p --nonsense=1", "There is no option --nonsense; mserve-submit --help shows them all."},
        {"p -z", "There is no option -z"},
        {"p --tier", "--tier needs NAME behind it."},
        {"p -wt", "--tier needs NAME behind it."},
        {"p --wait=1", "--wait takes no value."},
        {"p --on-invalid no", "--on-invalid is \"no\" but must be one of refuse or skip."},
        {"p -m a", "--metadata is \"a\" but must be key=value, at most 3 times."},
        {"p -m a=1 -m b=2 -m c=3 -m d=4",
         "--metadata is \"d=4\" but must be key=value, at most 3 times."},
        {"p --priority 10", "must be a whole number from 0 to 9."},
        {"p --priority -1", "must be a whole number from 0 to 9."},
        {"p --priority 1x", "must be a whole number from 0 to 9."},
        {"p --priority 4294967296", "must be"},
        {"p --completion-window 500ms", "must be a time such as 90s, 24h or 1d12h from 1s on."},
        {"p --bytes 4mb", "must be a size"},
        {"p --price -2", "must be a number"},
        {"p --price 1e999", "must be a number"},
        {"p --price inf", "must be a number"},
        {"p -m novalue", "must be key=value"},
        {"p -m =x", "must be key=value"},
    };
    struct options_rest rest;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(parse(cases[i].line, &rest), ERR_USAGE);
        if (strstr(said, cases[i].want) == NULL)
            fail_msg("%s: expected \"%s\" in: %s", cases[i].line, cases[i].want, said);
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    }
}

/* A command that begins with one of some words names them when there is another, or none. */
static void test_the_first_argument_may_be_a_choice(void **state)
{
    char *argv[] = {"worker", "-t", "x", "drain", "id"};
    struct options_rest rest;
    enum err err;

    (void)state;
    assert_int_equal(options_parse("mserve", &commands[2], 5, argv, &rest), ERR_OK);
    assert_int_equal(rest.count, 2);
    CATCH(STDERR_FILENO, err = options_parse("mserve", &commands[2], 1, argv, &rest));
    assert_int_equal(err, ERR_USAGE);
    assert_string_equal(
        said, "test: worker needs one of list or drain; mserve worker --help says more.\n");
    argv[1] = "lost";
    CATCH(STDERR_FILENO, err = options_parse("mserve", &commands[2], 2, argv, &rest));
    assert_int_equal(err, ERR_USAGE);
    assert_string_equal(
        said, "test: \"lost\" must be one of list or drain; mserve worker --help says more.\n");
}

static void test_the_help_text_stands_in_two_columns(void **state)
{
    struct options_rest rest;
    char *argv[] = {"p", "--help", "--nonsense"};
    char *version[] = {"p", "--version"};

    (void)state;
    CATCH(STDOUT_FILENO, assert_int_equal(options_parse(NULL, &command, 3, argv, &rest), ERR_OK));
    assert_true(rest.served);
    assert_non_null(strstr(said, "Usage: mserve-submit [options] FILE|-\n\nValidates a file"));
    assert_non_null(strstr(said, "  -t, --tier NAME           The tier: it runs the [whole] job."));
    assert_non_null(strstr(said, "      --completion-window TIME\n                            "
                                 "Finish by.\n"));
    assert_non_null(strstr(said, "Says nothing, and to say so it takes a sentence that\n"
                                 "                            is longer than a line.\n"));
    assert_non_null(strstr(said, "  -h, --help                Prints this text.\n"));
    assert_non_null(strstr(said, "\nMore text.\n"));
    CATCH(STDOUT_FILENO,
          assert_int_equal(options_parse(NULL, &command, 2, version, &rest), ERR_OK));
    assert_string_equal(said, "mserve-submit " MSERVE_VERSION "\n");
}

/* A summary begins at the margin, and so does its second line. */
static void test_a_long_summary_keeps_to_the_margin(void **state)
{
    const struct options_command wordy = {
        .name = "p",
        .summary = "It takes a sentence that is longer than a line of eighty "
                   "characters to say what this program does."};

    (void)state;
    CATCH(STDOUT_FILENO, options_print_help("p", &wordy, stdout));
    assert_non_null(strstr(said, "to say what\nthis program does.\n"));
}

static void test_sub_commands_are_found_or_suggested(void **state)
{
    const struct options_command *found;
    char *get[] = {"mserve", "get"};
    char *typo[] = {"mserve", "reslts"};
    char *help[] = {"mserve", "--help"};
    enum err err;

    (void)state;
    assert_int_equal(options_find_command(&program, 2, get, &found), ERR_OK);
    assert_ptr_equal(found, &commands[0]);
    CATCH(STDERR_FILENO, err = options_find_command(&program, 2, typo, &found));
    assert_int_equal(err, ERR_USAGE);
    assert_non_null(strstr(said, "There is no command \"reslts\"; did you mean results?"));
    CATCH(STDERR_FILENO, err = options_find_command(&program, 1, get, &found));
    assert_int_equal(err, ERR_USAGE);
    assert_non_null(strstr(said, "A command is missing"));
    CATCH(STDOUT_FILENO, err = options_find_command(&program, 2, help, &found));
    assert_int_equal(err, ERR_OK);
    assert_null(found);
    assert_non_null(strstr(said, "  results                   Writes results.\n"));
}

/* Writes the completion script to a file, and gives the answer of a shell that sourced it. */
static void bash_completes(const struct options_program *which, const char *words, int at,
                           const char *want)
{
    char path[] = "/tmp/mserve-complete-XXXXXX";
    char line[512], got[512] = "";
    int fd = mkstemp(path);
    FILE *script = fdopen(fd, "w");
    FILE *shell;
    char id[32];

    assert_non_null(script);
    assert_int_equal(options_print_completion(which, "bash", script), ERR_OK);
    fclose(script);
    snprintf(id, sizeof(id), "%s", which->name);
    for (char *c = id; *c != '\0'; c++)
        *c = *c == '-' ? '_' : *c;
    snprintf(line, sizeof(line),
             "bash -c '. %s; COMP_WORDS=(%s); COMP_CWORD=%d; _%s; echo \"${COMPREPLY[*]}\"'", path,
             words, at, id);
    shell = popen(line, "r");
    assert_non_null(shell);
    assert_non_null(fgets(got, sizeof(got), shell));
    assert_int_equal(pclose(shell), 0);
    unlink(path);
    got[strcspn(got, "\n")] = '\0';
    assert_string_equal(got, want);
}

static void test_bash_completes_options_choices_and_commands(void **state)
{
    (void)state;
    bash_completes(&single, "mserve-submit --ti", 1, "--tier");
    bash_completes(&single, "mserve-submit --on-invalid s", 2, "skip");
    bash_completes(&single, "mserve-submit --tier x", 2, "");
    bash_completes(&single, "mserve-submit " MSERVE_SOURCE "/meson_o", 1,
                   MSERVE_SOURCE "/meson_options.txt");
    bash_completes(&program, "mserve re", 1, "results");
    bash_completes(&program, "mserve get --on", 2, "--on-invalid");
    bash_completes(&program, "mserve results --on", 2, "");
    bash_completes(&program, "mserve get " MSERVE_SOURCE "/meson_o", 2, "");
    bash_completes(&program, "mserve worker ''", 2, "list drain");
    bash_completes(&program, "mserve worker --tier=x d", 3, "drain");
    bash_completes(&program, "mserve worker drain l", 3, "");
    bash_completes(&program, "mserve get l", 2, "");
}

static void test_other_shells_get_scripts_too(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    enum err err;

    (void)state;
    assert_int_equal(options_print_completion(&program, "zsh", out), ERR_OK);
    assert_int_equal(options_print_completion(&program, "fish", out), ERR_OK);
    fclose(out);
    assert_non_null(strstr(text, "#compdef mserve\n"));
    assert_non_null(strstr(text, "else # sourced\n    compdef _mserve mserve\n"));
    assert_non_null(
        strstr(text, "{-t+,--tier=}'[The tier\\: it runs the \\[whole\\] job.]:NAME:'"));
    assert_non_null(strstr(text, "{-i+,--input=}'[The user'\\''s file.]:FILE:_files'"));
    assert_non_null(strstr(text, "--on-invalid='[What a bad line does.]:WHAT:(refuse skip)'"));
    assert_non_null(strstr(text, "'get:Shows a job'\\''s state.'"));
    assert_non_null(strstr(text, "complete -c mserve -n __fish_use_subcommand -f -a get"
                                 " -d 'Shows a job\\'s state.'\n"));
    assert_non_null(strstr(text, "complete -c mserve -n '__mserve_command get'"
                                 " -l on-invalid -x -a 'refuse skip' -d 'What a bad line does.'"));
    assert_non_null(strstr(text, "'1:what:(list drain)'"));
    assert_non_null(strstr(text, "complete -c mserve -n '__mserve_command worker; and not"
                                 " __fish_seen_subcommand_from list drain' -f -a 'list drain'\n"));
    free(text);
    CATCH(STDERR_FILENO, err = options_print_completion(&program, "csh", stdout));
    assert_int_equal(err, ERR_USAGE);
}

static int set_up(void **state)
{
    (void)state;
    log_init("test", LOG_WARN, LOG_LOGFMT, true);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_and_arguments_may_be_mixed),
        cmocka_unit_test(test_dashes_can_be_arguments),
        cmocka_unit_test(test_bad_lines_are_refused_in_a_sentence),
        cmocka_unit_test(test_the_first_argument_may_be_a_choice),
        cmocka_unit_test(test_the_help_text_stands_in_two_columns),
        cmocka_unit_test(test_a_long_summary_keeps_to_the_margin),
        cmocka_unit_test(test_sub_commands_are_found_or_suggested),
        cmocka_unit_test(test_bash_completes_options_choices_and_commands),
        cmocka_unit_test(test_other_shells_get_scripts_too),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
