/* test_settings.c: what overrides what, what is refused and in which words, and that
 * config/mserve.yaml shows the table as it is. */
#include "config/log.h"
#include "config/settings.h"
#include "config/settings_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/mserve-settings-XXXXXX";
static char file[64];
static char said[8192]; /* what the last load wrote to standard error */

static void write_file(const char *path, const char *text, size_t len, mode_t mode)
{
    FILE *out = fopen(path, "w");

    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* settings_load() with its log lines caught in `said`. */
static enum err load_file(const char *path, struct settings **ret)
{
    FILE *log = tmpfile();
    int saved = dup(STDERR_FILENO);
    enum err err;
    size_t len;

    assert_non_null(log);
    assert_true(saved >= 0 && dup2(fileno(log), STDERR_FILENO) >= 0);
    err = settings_load(path, ret);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(log);
    len = fread(said, 1, sizeof(said) - 1, log);
    said[len] = '\0';
    fclose(log);
    return err;
}

static struct settings *load(const char *yaml)
{
    struct settings *settings = NULL;

    write_file(file, yaml, strlen(yaml), 0600);
    if (load_file(file, &settings) != ERR_OK)
        fail_msg("%s", said);
    return settings;
}

/* The file is refused, and the sentence contains `want`. */
static void refused(const char *yaml, const char *want)
{
    struct settings *settings = NULL;

    write_file(file, yaml, strlen(yaml), 0600);
    assert_int_equal(load_file(file, &settings), ERR_SETTINGS);
    assert_null(settings);
    if (strstr(said, want) == NULL)
        fail_msg("expected \"%s\" in: %s", want, said);
}

static int set_up(void **state)
{
    (void)state;
    log_init("test", LOG_WARN, LOG_LOGFMT, true);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(file, sizeof(file), "%s/m.yaml", folder);
    return 0;
}

static int tear_down(void **state)
{
    char path[96];

    (void)state;
    snprintf(path, sizeof(path), "%s/secret", folder);
    unlink(path);
    unlink(file);
    return rmdir(folder);
}

static void test_every_default_is_allowed_by_its_own_row(void **state)
{
    struct settings settings = {0};
    struct settings_tier tier = {0};

    (void)state;
    for (size_t i = 0; i < settings_rows.count; i++) {
        const struct setting *row = &settings_rows.rows[i];
        struct slice text = {row->fallback, strlen(row->fallback)};

        assert_true(setting_set(row, text, &settings.arena, &settings));
        assert_true(row->sentence[strlen(row->sentence) - 1] == '.');
        assert_non_null(strchr(row->name, '.'));
        assert_ptr_equal(setting_find(&settings_rows, (struct slice){row->name, strlen(row->name)}),
                         row);
    }
    setting_set_defaults(&tier_rows, &settings.arena, &tier);
    arena_release(&settings.arena);
}

/* A value printed reads back as the same value. */
static void test_values_survive_the_round_trip(void **state)
{
    struct settings *settings = load("");
    struct settings copy = {0};

    (void)state;
    for (size_t i = 0; i < settings_rows.count; i++) {
        const struct setting *row = &settings_rows.rows[i];
        struct buffer first = {0}, second = {0};

        if (row->type == SETTING_SECRET)
            continue;
        setting_add_value(row, settings, &first);
        assert_true(setting_set(row, buffer_slice(&first), &copy.arena, &copy));
        setting_add_value(row, &copy, &second);
        assert_int_equal(first.len, second.len);
        if (first.len > 0)
            assert_string_equal(first.data, second.data);
        buffer_release(&first);
        buffer_release(&second);
    }
    arena_release(&copy.arena);
    settings_free(settings);
}

static void test_the_environment_overrides_the_file_and_the_file_the_table(void **state)
{
    struct settings *settings;

    (void)state;
    setenv("MSERVE_KAFKA_PARTITIONS", "8", 1);
    setenv("MSERVE_WORKER_LEASE", "", 1); /* empty: not set */
    settings = load("kafka:\n  partitions: 4\n  replication: 3\nworker:\n  lease: 1m\n  drain:\n"
                    "log: # nothing\n");
    unsetenv("MSERVE_KAFKA_PARTITIONS");
    unsetenv("MSERVE_WORKER_LEASE");
    assert_int_equal(settings->kafka.partitions, 8);
    assert_int_equal(settings->kafka.replication, 3);
    assert_int_equal(settings->worker.lease_ms, 60000);
    assert_int_equal(settings->worker.drain_ms, 15000);
    assert_string_equal(settings->kafka.topic_prefix, "mserve");
    assert_int_equal(settings->submit.line_bytes_max, 16 << 20);
    assert_string_equal(settings->file, file);
    settings_free(settings);
}

static void test_tiers_are_read_with_all_their_keys(void **state)
{
    const struct settings_tier *tier;
    struct settings *settings =
        load("tiers:\n"
             "  - name: big\n    backend: cuda\n    model: /m/big.gguf\n"
             "    served_names: [big, big-2024]\n    request_time_limit: 1m30s\n"
             "    chat_format: ''\n"
             "  - {name: sim, backend: sim, chat_format: plain, served_names: sim, sim: {row_ns: "
             "7, pace: 0.5}}\n");

    (void)state;
    assert_int_equal(settings->tier_count, 2);
    tier = settings_tier_serving(settings, SLICE("big-2024"));
    assert_ptr_equal(tier, settings_tier_find(settings, "big"));
    assert_int_equal(tier->request_time_limit_ms, 90000);
    assert_int_equal(tier->served_names.count, 2);
    assert_int_equal(tier->sequences_max, 64);
    assert_string_equal(tier->chat_format, "");
    assert_string_equal(settings->tier[1].chat_format, "plain");
    assert_int_equal(settings->tier[1].sim.row_ns, 7);
    assert_true(settings->tier[1].sim.pace > 0.49 && settings->tier[1].sim.pace < 0.51);
    assert_null(settings_tier_serving(settings, SLICE("bi")));
    assert_null(settings_tier_find(settings, "none"));
    settings_free(settings);
}

/* Each bad file gets one sentence that names file, line, key and what is allowed. */
static void test_bad_files_are_refused_in_a_sentence(void **state)
{
    static const struct {
        const char *yaml;
        const char *want;
    } cases[] = {
        {"kafka:\n  partitions: many\n",
         "m.yaml:2: kafka.partitions is \"many\" but must be a whole number from 1 to 10000."},
        {"kafka:\n  partitions: 0\n", "m.yaml:2: kafka.partitions is \"0\""},
        {"kafka:\n  partitions: 4294967297\n", "kafka.partitions"},
        {"kafka:\n  partitions: [1]\n", "m.yaml:2: kafka.partitions is \"\""},
        {"kafka:\n  topic_prefix: a b\n", "kafka.topic_prefix is \"a b\" but must be a name"},
        {"kafka:\n  topic_prefix: ''\n", "kafka.topic_prefix"},
        {"kafka:\n  brokers: \"a\\0b\"\n",
         "kafka.brokers is \"a\\x00b\" but must be a text of at most 4096 bytes without control "
         "characters."},
        {"log:\n  level: \"warn\\0\"\n", "log.level is \"warn\\x00\" but must be one of error"},
        {"nothing:\n  at: all\n",
         "nothing is no setting; `mserve check-config --print` shows them all."},
        {"worker:\n  lease: 30\n", "must be a time such as 30s or 1h30m from 1s to 10m."},
        {"worker:\n  price_per_gpu_hour: nan\n", "must be a number from 0 to 1000000."},
        {"worker:\n  price_per_gpu_hour: 1-2\n", "worker.price_per_gpu_hour"},
        {"log:\n  level: loud\n", "must be one of error, warn, info or debug."},
        {"kafka:\n  brokerz: a\n",
         "m.yaml:2: kafka.brokerz is no setting; did you mean kafka.brokers?"},
        {"kafk:\n  a: 1\n", "m.yaml:1: kafk is no setting"},
        {"tier: 1\n", "m.yaml:1: tier is no setting"},
        {"kafka.brokers: a\n", "m.yaml:1: a key must be a name"},
        {"log: {level: info}\nlog: {level: warn}\n",
         "m.yaml:2: log stands twice, first in line 1."},
        {"log:\n  level: info\n  level: warn\n",
         "m.yaml:3: log.level stands twice, first in line 2."},
        {"a: &x 1\n", "m.yaml:1: anchors"},
        {"kafka:\n  brokers: !!str a\n", "m.yaml:2: anchors"},
        {"kafka: *x\n", "m.yaml:1: anchors (&), aliases (*) and tags"},
        {"---\nlog:\n---\nlog:\n", "must hold one document"},
        {"- a\n", "must be a map of sections"},
        {"text\n", "must be a map of sections"},
        {"log: info\n", "log is a section"},
        {"? [a]\n: b\n", "a key must be a name"},
        {"log:\n\tlevel: info\n", "m.yaml:2: this is not YAML"},
        {"x: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", "more than 16 deep"},
        {"kafka:\n  sasl_password: secret\n", "m.yaml:2: kafka.sasl_password does not belong"},
        {"postgres:\n  dsn: postgresql://me:secret@host/db\n", "must not hold a password"},
        {"postgres:\n  dsn: host=h password=secret\n", "must not hold a password"},
        {"worker:\n  renew: 20s\n", "worker.renew must be at most half of worker.lease."},
        {"worker:\n  notices: [aws, moon]\n", "worker.notices has moon, but there are aws, gcp"},
        {"worker:\n  notices: [file]\n", "worker.notice_file must say which"},
        {"submit:\n  window: 31d\n", "submit.window must not be longer"},
        {"kafka:\n  retention: 30d\n", "kafka.retention must be longer"},
        {"kafka:\n  security_protocol: sasl_ssl\n", "needs kafka.sasl_username"},
        {"kafka:\n  ssl_key_file: k\n", "belong together"},
        {"tiers: 1\n", "tiers must be a list"},
        {"tiers: [1]\n", "each tier must be a map"},
        {"tiers: [{}]\n", "needs a name"},
        {"tiers: [{name: a}]\n", "a needs a model"},
        {"tiers: [{name: a, backend: sim}]\n", "needs served_names"},
        {"tiers: [{name: a, modell: x}]\n", "tiers: modell is no setting; did you mean model?"},
        {"tiers: [{name: a, name: b}]\n", "tiers: name stands twice"},
        {"tiers: [{name: a, sha256: 12}]\n", "64 hexadecimal digits"},
        {"tiers:\n - name: a\n   chat_format: chatml2\n",
         "m.yaml:3: tiers: chat_format is \"chatml2\" but must be one of plain, or empty."},
        {"tiers: [{name: a, served_names: [[a]]}]\n", "must not hold maps or lists"},
        {"tiers:\n - {name: a, backend: sim, served_names: x}\n"
         " - {name: a, backend: sim, served_names: y}\n",
         "the name a stands twice"},
        {"tiers:\n - {name: a, backend: sim, served_names: x}\n"
         " - {name: b, backend: sim, served_names: x}\n",
         "a and b both answer to x"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refused(cases[i].yaml, cases[i].want);
}

static void test_all_problems_are_shown_at_once(void **state)
{
    (void)state;
    refused("kafka:\n  partitions: x\n  nonsense: {a: [b]}\nlog:\n  level: y\n", "m.yaml:2:");
    assert_non_null(strstr(said, "m.yaml:3: kafka.nonsense is no setting"));
    assert_non_null(strstr(said, "m.yaml:5: log.level"));
}

/* A file that is something else does not flood the log. */
static void test_reading_ends_after_20_problems(void **state)
{
    struct buffer yaml = {0};

    (void)state;
    for (int i = 0; i < 30; i++)
        buffer_printf(&yaml, "name%d: x\n", i);
    refused(yaml.data, "m.yaml:20: name19 is no setting");
    assert_non_null(strstr(said, "m.yaml:21: 20 problems were found"));
    assert_null(strstr(said, "m.yaml:22:"));
    buffer_release(&yaml);
}

static void test_large_and_missing_files_are_refused(void **state)
{
    struct settings *settings = NULL;
    char *text = malloc((1 << 20) + 2);

    (void)state;
    memset(text, '#', (1 << 20) + 2);
    write_file(file, text, (1 << 20) + 1, 0600);
    assert_int_equal(load_file(file, &settings), ERR_SETTINGS);
    assert_non_null(strstr(said, "larger than 1 MiB"));
    assert_int_equal(load_file("/nowhere/m.yaml", &settings), ERR_SETTINGS);
    assert_non_null(strstr(said, "/nowhere/m.yaml cannot be opened"));
    free(text);
}

/* A bad variable is named as a variable; one that is nearly a setting's is refused like a key. */
static void test_variables_are_checked_like_the_file(void **state)
{
    (void)state;
    setenv("MSERVE_LOG_LEVEL", "loud", 1);
    refused("", "MSERVE_LOG_LEVEL is \"loud\" but must be one of error, warn, info or debug.");
    unsetenv("MSERVE_LOG_LEVEL");
    setenv("MSERVE_KAFKA_BROKER", "x", 1);
    refused("", "test: The variable MSERVE_KAFKA_BROKER is no setting; did you mean "
                "MSERVE_KAFKA_BROKERS?\n");
    setenv("MSERVE_KAFKA_BROKER", "", 1); /* empty: not set */
    settings_free(load(""));
    unsetenv("MSERVE_KAFKA_BROKER");
    setenv("MSERVE_POSTGRES_PASWORD_FILE", "/x", 1);
    refused("", "did you mean MSERVE_POSTGRES_PASSWORD_FILE?");
    unsetenv("MSERVE_POSTGRES_PASWORD_FILE");
    setenv("MSERVE_WORKER_PORT", "tcp://10.0.0.1:80", 1); /* set by a cluster */
    settings_free(load(""));
    assert_string_equal(said, "");
    unsetenv("MSERVE_WORKER_PORT");
}

/* A secret comes from its own file or the environment, and no listing shows it. */
static void test_secrets_stay_secret(void **state)
{
    struct settings *settings;
    char yaml[160], path[96];
    char *listing = NULL;
    size_t size = 0;
    FILE *out;

    (void)state;
    snprintf(path, sizeof(path), "%s/secret", folder);
    snprintf(yaml, sizeof(yaml), "postgres:\n  password_file: %s\n", path);
    write_file(path, "hunter2\n", 8, 0604);
    refused(yaml, "may be read or written by everybody; chmod o-rw ");
    write_file(path, "\n", 1, 0600);
    refused(yaml, "must hold one line");
    write_file(path, "two\nlines\n", 10, 0600);
    refused(yaml, "must hold one line");
    write_file(path, "hunter2\n", 8, 0640);
    settings = load(yaml);
    assert_string_equal(settings->postgres.password, "hunter2");
    out = open_memstream(&listing, &size);
    settings_print(settings, out);
    fclose(out);
    assert_null(strstr(listing, "hunter2"));
    assert_non_null(strstr(listing, "postgres.password = (set)  (file)"));
    free(listing);
    settings_free(settings);
    unlink(path);
    refused(yaml, "m.yaml:2: postgres.password_file: ");

    setenv("MSERVE_POSTGRES_PASSWORD", "hunter3", 1);
    settings = load("");
    unsetenv("MSERVE_POSTGRES_PASSWORD");
    assert_string_equal(settings->postgres.password, "hunter3");
    settings_free(settings);
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \n")] == '\0';
}

/* `  # key: value` in the reference may be `  key: another` in the file. */
static bool same_line(const char *want, const char *got)
{
    const char *hash = strstr(want, "# ");
    const char *colon = strchr(want, ':');
    size_t indent = (size_t)(hash != NULL ? hash - want : 0);

    if (strcmp(want, got) == 0)
        return true;
    return hash != NULL && colon != NULL && strncmp(want, got, indent) == 0 &&
           strncmp(hash + 2, got + indent, (size_t)(colon - hash - 1)) == 0;
}

/* config/mserve.yaml is the printed reference, some values changed, and the tiers behind it. */
static void test_the_file_shows_the_table(void **state)
{
    FILE *got = fopen(MSERVE_SOURCE "/config/mserve.yaml", "r");
    FILE *want = tmpfile();
    char want_line[256], got_line[256];
    unsigned line = 0;

    (void)state;
    assert_non_null(got);
    settings_print_reference(want);
    rewind(want);
    while (fgets(want_line, sizeof(want_line), want) != NULL) {
        line++;
        if (fgets(got_line, sizeof(got_line), got) == NULL)
            strcpy(got_line, "(the end)\n");
        if (!same_line(want_line, got_line))
            fail_msg("config/mserve.yaml:%u should be: %sbut is: %s", line, want_line, got_line);
    }
    assert_true(fgets(got_line, sizeof(got_line), got) != NULL && is_blank(got_line));
    assert_true(fgets(got_line, sizeof(got_line), got) != NULL);
    assert_string_equal(got_line, "tiers:\n");
    fclose(got);
    fclose(want);
}

static void test_the_file_that_ships_is_valid(void **state)
{
    struct settings *settings = NULL;

    (void)state;
    assert_int_equal(load_file(MSERVE_SOURCE "/config/mserve.yaml", &settings), ERR_OK);
    assert_string_equal(settings_tier_serving(settings, SLICE("mserve-demo-lang"))->name, "demo");
    assert_string_equal(settings_tier_find(settings, "sim")->backend, "sim");
    settings_free(settings);
}

/* The caller's own settings are not what is tested. */
static void forget_the_environment(void)
{
    for (char **entry = environ; *entry != NULL;) {
        char name[128];
        size_t len = strcspn(*entry, "=");

        if (strncmp(*entry, "MSERVE_", 7) != 0 || len >= sizeof(name)) {
            entry++;
            continue;
        }
        memcpy(name, *entry, len);
        name[len] = '\0';
        unsetenv(name); /* moves the rest down */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_default_is_allowed_by_its_own_row),
        cmocka_unit_test(test_values_survive_the_round_trip),
        cmocka_unit_test(test_the_environment_overrides_the_file_and_the_file_the_table),
        cmocka_unit_test(test_tiers_are_read_with_all_their_keys),
        cmocka_unit_test(test_bad_files_are_refused_in_a_sentence),
        cmocka_unit_test(test_all_problems_are_shown_at_once),
        cmocka_unit_test(test_reading_ends_after_20_problems),
        cmocka_unit_test(test_large_and_missing_files_are_refused),
        cmocka_unit_test(test_variables_are_checked_like_the_file),
        cmocka_unit_test(test_secrets_stay_secret),
        cmocka_unit_test(test_the_file_shows_the_table),
        cmocka_unit_test(test_the_file_that_ships_is_valid),
    };

    forget_the_environment();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
