/*
 * settings.h: what can be set, and its values. config/settings_table.c holds one row a setting;
 * config/mserve.yaml shows them all.
 *
 * A value comes from, the later winning: the table's default, the file, the environment
 * (MSERVE_KAFKA_BROKERS for kafka.brokers; tiers stand in the file only). The file is the one
 * given (--config), else $MSERVE_CONFIG, else ./config/mserve.yaml, else /etc/mserve/mserve.yaml,
 * else none. Relative paths are relative to the working folder.
 *
 * Secrets have no value in the file: `x` is set by the variable MSERVE_X or read from the file that
 * `x_file` names, which people other than its owner and group must not be able to read. They are
 * never printed.
 *
 * Texts belong to the settings and live until settings_free(). Read-only after loading, so any
 * thread may read.
 */
#ifndef MSERVE_CONFIG_SETTINGS_H
#define MSERVE_CONFIG_SETTINGS_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { SETTINGS_TIERS_MAX = 64, SETTINGS_LIST_MAX = 64 };

struct settings_list {
    const char **item;
    uint32_t count;
};

/* The clock of the `sim` backend: what a step costs. */
struct settings_sim {
    uint64_t load_ns;
    uint64_t fixed_ns;
    uint64_t row_ns;
    uint64_t kv_ns;
    uint64_t chunk_kv_ns;
    uint64_t head_ns;
    double pace;
    uint32_t eos_per_million;
    uint32_t abort_token;
    uint32_t hang_token;
    uint32_t eat_token;
    uint32_t fail_token;
};

/* A model tier: a topic and the model behind it. Texts that were not set are "". */
struct settings_tier {
    const char *name;
    const char *model;
    const char *sha256;
    const char *backend;
    struct settings_list served_names;
    const char *chat_format;
    uint32_t context_max;
    uint32_t sequences_max;
    uint32_t waiting_max;
    uint32_t rows_max;
    uint64_t kv_tokens;
    const char *kv_type;
    const char *weights;
    uint32_t threads;
    double gpu_share;
    uint32_t max_tokens_default;
    uint64_t request_time_limit_ms;
    struct settings_sim sim;
};

struct settings_postgres {
    const char *dsn;
    const char *password;
};

struct settings_kafka {
    const char *brokers;
    const char *topic_prefix;
    uint32_t partitions;
    uint32_t replication;
    uint64_t retention_ms;
    const char *security_protocol;
    const char *sasl_mechanism;
    const char *sasl_username;
    const char *sasl_password;
    const char *ssl_ca_file;
    const char *ssl_certificate_file;
    const char *ssl_key_file;
};

struct settings_log {
    const char *level;
    const char *format;
};

struct settings_submit {
    uint64_t line_bytes_max;
    uint64_t document_bytes_max;
    uint64_t inline_bytes_max;
    const char *spool_dir;
    uint64_t window_ms;
    uint64_t window_max_ms;
    uint64_t upload_abandoned_after_ms;
    uint64_t outage_max_ms;
    uint32_t chunk_lines_min;
    uint32_t chunk_lines_max;
    uint64_t chunk_bytes_max;
};

struct settings_worker {
    const char *name;
    uint64_t lease_ms;
    uint64_t renew_ms;
    uint64_t hung_after_ms;
    const char *guard; /* on or off */
    uint64_t restart_max_ms;
    const char *recorder;
    uint64_t suspect_wait_ms;
    uint32_t vanished_workers;
    uint32_t vanished_hosts;
    uint64_t drain_ms;
    uint64_t drain_margin_ms;
    uint64_t drain_finish_ms;
    struct settings_list notices;
    uint64_t notice_interval_ms;
    bool notice_rebalance;
    const char *notice_aws_url;
    const char *notice_gcp_url;
    const char *notice_azure_url;
    const char *notice_file;
    uint32_t commit_rows;
    uint64_t commit_interval_ms;
    uint64_t checkpoint_interval_ms;
    uint64_t fetch_bytes_max;
    uint32_t requests_max;
    uint32_t threads;
    const char *gpu;
    const char *gpu_dir;
    uint64_t gpu_reserve; /* bytes */
    uint64_t gpu_rest_ms;
    struct settings_list tiers;
    double price_per_gpu_hour;
    double price_on_demand_per_gpu_hour;
    const char *currency;
    const char *capacity;
    const char *http;
};

struct settings_scheduler {
    uint64_t fold_interval_ms;
    const char *http;
};

/* Deliveries of events to people's own servers: scheduler/deliver.h. */
struct settings_webhook {
    const char *key_file;
    struct settings_list http_hosts;
    struct settings_list private_networks;
    struct settings_list ports;
    const char *ca_file;
    uint64_t timeout_ms;
    struct settings_list retries;
    uint64_t disable_after_ms;
    uint32_t connections;
};

struct settings {
    struct settings_postgres postgres;
    struct settings_kafka kafka;
    struct settings_log log;
    struct settings_submit submit;
    struct settings_worker worker;
    struct settings_scheduler scheduler;
    struct settings_webhook webhook;
    struct settings_tier *tier; /* [tier_count], in the order of the file */
    uint32_t tier_count;

    const char *file;      /* where they came from; NULL: no file */
    const uint8_t *origin; /* of each row of the table: enum setting_origin */
    struct arena arena;
};

/*
 * Loads and checks. Every problem is logged as one sentence that names file, line, setting and what
 * is allowed; then ERR_SETTINGS. `path` may be NULL (see above). *ret is the caller's to free.
 */
enum err settings_load(const char *path, struct settings **ret);
void settings_free(struct settings *settings); /* NULL is allowed */

/* For `mserve check-config`: loads, and on success prints one line that says what was read. */
enum err settings_check(const char *path, FILE *out);

/* The tier of that name, or the one that answers to a model name; NULL: none. */
const struct settings_tier *settings_tier_find(const struct settings *settings, const char *name);
const struct settings_tier *settings_tier_serving(const struct settings *settings,
                                                  struct slice model);

/* Calls log_init() with log.level and log.format. `plain` is for command line programs. */
void settings_log_init(const struct settings *settings, const char *program, bool plain);

/* Every setting with its sentence, default and range, as a YAML file with all of it commented out. */
void settings_print_reference(FILE *out);

/*
 * Every setting, its value and where it came from; of secrets, and of a postgres.dsn that holds a
 * password, only whether they are set.
 */
void settings_print(const struct settings *settings, FILE *out);

#endif
