/* settings_table.c: the settings, one row each, in the order of config/mserve.yaml. */
#include "config/settings_table.h"

/* The offset of a field, and a build error when it has another type than its row says. */
#define AT(holder, field, want)                                                                    \
    (offsetof(struct holder, field) +                                                              \
     0 * sizeof(struct {                                                                           \
         _Static_assert(                                                                           \
             __builtin_types_compatible_p(__typeof__(((struct holder *)0)->field), want),          \
             #field " has another type");                                                          \
         int unused;                                                                               \
     }))

#define STRING(h, f)   SETTING_STRING, AT(h, f, const char *)
#define NAME(h, f)     SETTING_NAME, AT(h, f, const char *)
#define PATH(h, f)     SETTING_PATH, AT(h, f, const char *)
#define SECRET(h, f)   SETTING_SECRET, AT(h, f, const char *)
#define SHA256(h, f)   SETTING_SHA256, AT(h, f, const char *)
#define CHOICE(h, f)   SETTING_CHOICE, AT(h, f, const char *)
#define BOOL(h, f)     SETTING_BOOL, AT(h, f, bool)
#define U32(h, f)      SETTING_U32, AT(h, f, uint32_t)
#define U64(h, f)      SETTING_U64, AT(h, f, uint64_t)
#define F64(h, f)      SETTING_F64, AT(h, f, double)
#define DURATION(h, f) SETTING_DURATION, AT(h, f, uint64_t)
#define BYTES(h, f)    SETTING_BYTES, AT(h, f, uint64_t)
#define LIST(h, f)     SETTING_LIST, AT(h, f, struct settings_list)

/* clang-format off */
#define S settings
static const struct setting rows[] = {
    /* name, field, default, min, max, choices, sentence */
    {"postgres.dsn", STRING(S, postgres.dsn), "", NULL, NULL, NULL,
     "Where PostgreSQL is: a libpq connection string or URI without a password; empty: libpq's own "
     "environment (PGHOST, PGPORT, ...)."},
    {"postgres.password", SECRET(S, postgres.password), "", NULL, NULL, NULL,
     "The password for PostgreSQL, where one is needed."},

    {"kafka.brokers", STRING(S, kafka.brokers), "localhost:9092", NULL, NULL, NULL,
     "Kafka brokers to begin with: host:port, several with commas between."},
    {"kafka.topic_prefix", NAME(S, kafka.topic_prefix), "mserve", NULL, NULL, NULL,
     "What the names of all topics begin with."},
    {"kafka.partitions", U32(S, kafka.partitions), "32", "1", "10000", NULL,
     "Partitions of a new topic; at least four times the largest number of workers on a tier."},
    {"kafka.replication", U32(S, kafka.replication), "1", "1", "16", NULL,
     "Copies of each partition of a new topic; 3 where there are three brokers."},
    {"kafka.retention", DURATION(S, kafka.retention_ms), "38d", "1h", "3650d", NULL,
     "How long Kafka keeps requests; longer than submit.window_max."},
    {"kafka.security_protocol", CHOICE(S, kafka.security_protocol), "plaintext", NULL, NULL,
     "plaintext|ssl|sasl_plaintext|sasl_ssl",
     "How the connection to the brokers is secured."},
    {"kafka.sasl_mechanism", CHOICE(S, kafka.sasl_mechanism), "SCRAM-SHA-512", NULL, NULL,
     "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512",
     "How a client proves who it is, with a sasl_ protocol."},
    {"kafka.sasl_username", STRING(S, kafka.sasl_username), "", NULL, NULL, NULL,
     "The user name for Kafka, with a sasl_ protocol."},
    {"kafka.sasl_password", SECRET(S, kafka.sasl_password), "", NULL, NULL, NULL,
     "The password for Kafka, with a sasl_ protocol."},
    {"kafka.ssl_ca_file", PATH(S, kafka.ssl_ca_file), "", NULL, NULL, NULL,
     "Certificates (PEM) that the brokers' own must be signed by; empty: the system's."},
    {"kafka.ssl_certificate_file", PATH(S, kafka.ssl_certificate_file), "", NULL, NULL, NULL,
     "The client's certificate (PEM), where the brokers ask for one."},
    {"kafka.ssl_key_file", PATH(S, kafka.ssl_key_file), "", NULL, NULL, NULL,
     "The client's private key (PEM), where the brokers ask for a certificate."},

    {"log.level", CHOICE(S, log.level), "info", NULL, NULL, "error|warn|info|debug",
     "The least important lines that the log shows."},
    {"log.format", CHOICE(S, log.format), "logfmt", NULL, NULL, "logfmt|json",
     "The form of a line of the log."},

    {"submit.window", DURATION(S, submit.window_ms), "24h", "1m", "3650d", NULL,
     "Within which time a job is to be done, counted from when it was created, where the submitter "
     "names none."},
    {"submit.window_max", DURATION(S, submit.window_max_ms), "30d", "1m", "3650d", NULL,
     "The longest window that may be asked for."},
    {"submit.upload_abandoned_after", DURATION(S, submit.upload_abandoned_after_ms), "24h", "1m",
     "30d", NULL,
     "After which silence an unfinished upload is given up and its job fails."},
    {"submit.outage_max", DURATION(S, submit.outage_max_ms), "10m", "1s", "1d", NULL,
     "How long an upload waits for Kafka or PostgreSQL to come back; then it ends, and the same "
     "command goes on later."},
    {"submit.line_bytes_max", BYTES(S, submit.line_bytes_max), "16MiB", "1KiB", "1GiB", NULL,
     "The longest line of an input file."},
    {"submit.document_bytes_max", BYTES(S, submit.document_bytes_max), "64MiB", "1KiB", "256MiB",
     NULL, "The longest document of --documents, as a file and as UTF-8."},
    {"submit.inline_bytes_max", BYTES(S, submit.inline_bytes_max), "256KiB", "1B", "512KiB", NULL,
     "The largest body that goes through Kafka; larger ones are stored aside and fetched by the "
     "worker."},
    {"submit.spool_dir", PATH(S, submit.spool_dir), "/var/tmp", NULL, NULL, NULL,
     "Where standard input, unpacked files and large sets of ids are kept while a file is read."},
    {"submit.chunk_lines_min", U32(S, submit.chunk_lines_min), "16", "1", "1024", NULL,
     "The fewest lines of a chunk, but for a job's last."},
    {"submit.chunk_lines_max", U32(S, submit.chunk_lines_max), "1024", "1", "1024", NULL,
     "The most lines of a chunk."},
    {"submit.chunk_bytes_max", BYTES(S, submit.chunk_bytes_max), "4MiB", "512KiB", "64MiB", NULL,
     "The most bytes of a chunk."},

    {"worker.name", NAME(S, worker.name), "", NULL, NULL, NULL,
     "What the worker is called in tables and logs; empty: the name of its host."},
    {"worker.lease", DURATION(S, worker.lease_ms), "30s", "1s", "10m", NULL,
     "How long a worker keeps what it holds without renewing it."},
    {"worker.renew", DURATION(S, worker.renew_ms), "10s", "100ms", "5m", NULL,
     "How often a worker renews its lease; at most half of worker.lease."},
    {"worker.hung_after", DURATION(S, worker.hung_after_ms), "5m", "1s", "1d", NULL,
     "A device that takes so long for one step hangs; its lease is left to run out."},
    {"worker.guard", CHOICE(S, worker.guard), "on", NULL, NULL, "on|off",
     "Whether a parent process watches the worker, buries it when it dies and starts it again; off for "
     "debuggers."},
    {"worker.restart_max", DURATION(S, worker.restart_max_ms), "1m", "10ms", "1d", NULL,
     "The longest pause before a worker that died is started again."},
    {"worker.recorder", PATH(S, worker.recorder), "", NULL, NULL, NULL,
     "A file for what the worker is at, for who wants to look when all its processes are gone; empty: "
     "memory that goes with them."},
    {"worker.suspect_wait", DURATION(S, worker.suspect_wait_ms), "10s", "0ms", "1d", NULL,
     "How long requests that may have killed a worker wait at most before others are held back, so "
     "that they run apart."},
    {"worker.vanished_workers", U32(S, worker.vanished_workers), "5", "2", "1000000", NULL,
     "A request that was open on so many workers that vanished without a trace, on "
     "worker.vanished_hosts hosts, runs alone; after as many while it ran alone it fails."},
    {"worker.vanished_hosts", U32(S, worker.vanished_hosts), "3", "1", "1000000", NULL,
     "See worker.vanished_workers."},
    {"worker.drain", DURATION(S, worker.drain_ms), "15s", "1s", "10m", NULL,
     "How much time a worker has to leave in good order where whoever tells it to names none."},
    {"worker.drain_margin", DURATION(S, worker.drain_margin_ms), "6s", "0s", "10m", NULL,
     "Of that time, what is kept for the last commit; requests run on only before it."},
    {"worker.drain_finish", DURATION(S, worker.drain_finish_ms), "10m", "0s", "1d", NULL,
     "How long requests that will be done in time run on before the worker leaves, at most."},
    {"worker.notices", LIST(S, worker.notices), "", NULL, NULL, NULL,
     "Where notices that this machine goes away are looked for: aws, gcp, azure, file."},
    {"worker.notice_interval", DURATION(S, worker.notice_interval_ms), "2s", "100ms", "1m", NULL,
     "How often they are looked for."},
    {"worker.notice_rebalance", BOOL(S, worker.notice_rebalance), "false", NULL, NULL, NULL,
     "Whether to leave on a rebalance recommendation of aws, too."},
    {"worker.notice_aws_url", STRING(S, worker.notice_aws_url), "http://169.254.169.254", NULL, NULL,
     NULL, "Where the metadata service of aws is."},
    {"worker.notice_gcp_url", STRING(S, worker.notice_gcp_url), "http://metadata.google.internal",
     NULL, NULL, NULL, "Where the metadata service of gcp is."},
    {"worker.notice_azure_url", STRING(S, worker.notice_azure_url), "http://169.254.169.254", NULL,
     NULL, NULL, "Where the metadata service of azure is."},
    {"worker.notice_file", PATH(S, worker.notice_file), "", NULL, NULL, NULL,
     "With file among the notices: the worker leaves when it exists; it may hold by when."},
    {"worker.commit_rows", U32(S, worker.commit_rows), "512", "1", "65536", NULL,
     "Results that are committed together, at most."},
    {"worker.commit_interval", DURATION(S, worker.commit_interval_ms), "500ms", "10ms", "1m", NULL,
     "How long a result waits for others to commit with; not when the device is idle."},
    {"worker.checkpoint_interval", DURATION(S, worker.checkpoint_interval_ms), "2s", "10ms", "1h", NULL,
     "How often the tokens of unfinished requests are saved; what came since is generated again when "
     "the worker is lost."},
    {"worker.fetch_bytes_max", BYTES(S, worker.fetch_bytes_max), "64MiB", "1MiB", "4GiB", NULL,
     "Memory for requests that were read from Kafka and have not begun."},
    {"worker.requests_max", U32(S, worker.requests_max), "4096", "1", "1000000", NULL,
     "Requests that a worker holds in memory, at most."},
    {"worker.threads", U32(S, worker.threads), "0", "0", "1024", NULL,
     "Threads of a CPU backend; 0: one for each core."},
    {"worker.gpu", STRING(S, worker.gpu), "", NULL, NULL, NULL,
     "The GPU of a worker whose backend wants one: its UUID or the beginning of that, or its number in "
     "the list; empty: the first that no other worker of this machine has."},
    {"worker.gpu_dir", PATH(S, worker.gpu_dir), "", NULL, NULL, NULL,
     "Where the workers of this machine say which GPU is taken, and which is sick: one folder for all "
     "of them; empty: $RUNTIME_DIRECTORY, else /tmp."},
    {"worker.gpu_reserve", BYTES(S, worker.gpu_reserve), "512MiB", "0B", "1TiB", NULL,
     "Memory of the GPU that no plan takes."},
    {"worker.gpu_rest", DURATION(S, worker.gpu_rest_ms), "10m", "0s", "30d", NULL,
     "How long a GPU that was found sick is left alone; 0s: not at all."},
    {"worker.tiers", LIST(S, worker.tiers), "", NULL, NULL, NULL,
     "The tiers that one worker serves, on one device, where --tier does not say; empty: the only one "
     "there is."},
    {"worker.price_per_gpu_hour", F64(S, worker.price_per_gpu_hour), "0", "0", "1000000", NULL,
     "What an hour of the worker's device costs, in worker.currency."},
    {"worker.price_on_demand_per_gpu_hour", F64(S, worker.price_on_demand_per_gpu_hour), "0", "0",
     "1000000", NULL,
     "What an hour of the same device costs on demand; 0: not said."},
    {"worker.currency", NAME(S, worker.currency), "USD", NULL, NULL, NULL,
     "The currency of prices."},
    {"worker.capacity", CHOICE(S, worker.capacity), "", NULL, NULL, "spot|on_demand|reserved",
     "How the worker's host was bought; empty: not said."},
    {"worker.http", STRING(S, worker.http), "127.0.0.1:0", NULL, NULL, NULL,
     "Address and port of /metrics, /livez and /readyz; port 0: one that is free, which the log "
     "names, so that several workers share a host; empty: none."},

    {"scheduler.fold_interval", DURATION(S, scheduler.fold_interval_ms), "1s", "10ms", "1m", NULL,
     "How often progress is added up and jobs change their state."},
    {"scheduler.http", STRING(S, scheduler.http), "127.0.0.1:0", NULL, NULL, NULL,
     "Address and port of /metrics, /livez and /readyz; port 0: one that is free, which the log "
     "names; empty: none."},

    {"webhook.key_file", PATH(S, webhook.key_file), "", NULL, NULL, NULL,
     "A file with the key that seals the secrets of webhooks, which nobody but its owner and group may "
     "read; `mserve webhook key` makes one; empty: no webhooks."},
    {"webhook.http_hosts", LIST(S, webhook.http_hosts), "", NULL, NULL, NULL,
     "Hosts to which events may go over http, unencrypted, *.example.com for all under one; all others "
     "are reached over https alone."},
    {"webhook.private_networks", LIST(S, webhook.private_networks), "", NULL, NULL, NULL,
     "Networks that events may go to although they are not public: 10.1.0.0/16, fd00::/8; the address "
     "of a metadata service counts only when it is named alone; empty: public addresses only."},
    {"webhook.ports", LIST(S, webhook.ports), "443,80", NULL, NULL, NULL,
     "The ports that events may go to."},
    {"webhook.ca_file", PATH(S, webhook.ca_file), "", NULL, NULL, NULL,
     "Certificates (PEM) that the receivers' own must be signed by; empty: the system's."},
    {"webhook.timeout", DURATION(S, webhook.timeout_ms), "20s", "100ms", "2m", NULL,
     "How long one delivery may take."},
    {"webhook.retries", LIST(S, webhook.retries), "0s,5s,5m,30m,2h,5h,10h,14h,20h,24h", NULL, NULL, NULL,
     "How long after the attempt before each attempt is made, give or take a fifth."},
    {"webhook.disable_after", DURATION(S, webhook.disable_after_ms), "5d", "1s", "3650d", NULL,
     "An endpoint that fails for so long, and never succeeds, is disabled."},
    {"webhook.connections", U32(S, webhook.connections), "256", "1", "10000", NULL,
     "Deliveries that are under way at once, at most; 4 of them to one endpoint."},
};
#undef S

#define T settings_tier
static const struct setting tier[] = {
    {"name", NAME(T, name), "", NULL, NULL, NULL,
     "What the tier is called; its topic is <prefix>.requests.<name>."},
    {"backend", CHOICE(T, backend), "cpu", NULL, NULL, "cpu|ref|sim|cpu-avx512|cpu-avx2|cpu-scalar|cuda|cuda-emu",
     "What computes: cpu (or one instruction set), cuda (an NVIDIA GPU; without one cpu), ref (plain C, "
     "slow), sim (no model), cuda-emu (a GPU played by the processor, for tests)."},
    {"model", PATH(T, model), "", NULL, NULL, NULL,
     "The model's file (GGUF); not needed by sim."},
    {"sha256", SHA256(T, sha256), "", NULL, NULL, NULL,
     "The digest that the model's file must have; empty: any."},
    {"served_names", LIST(T, served_names), "", NULL, NULL, NULL,
     "The model names of requests that this tier answers to."},
    {"chat_format", CHOICE(T, chat_format), "", NULL, NULL, "plain",
     "How chat messages become a prompt; empty: as the model's file says."},
    {"context_max", U32(T, context_max), "0", "0", "16777216", NULL,
     "Tokens of prompt and answer together, at most; 0: as many as the model takes."},
    {"sequences_max", U32(T, sequences_max), "64", "1", "4096", NULL,
     "Requests that run at once."},
    {"waiting_max", U32(T, waiting_max), "1024", "1", "1000000", NULL,
     "Requests that wait in the engine for a place."},
    {"rows_max", U32(T, rows_max), "512", "1", "65536", NULL,
     "Tokens that one step computes, at most; at least sequences_max."},
    {"kv_tokens", U64(T, kv_tokens), "0", "0", "4294967296", NULL,
     "Tokens that the KV cache holds; 0: sequences_max times the context, at most 1 GiB, on a GPU at "
     "most what it has left."},
    {"kv_type", CHOICE(T, kv_type), "half", NULL, NULL, "half|f32|fp8",
     "What keys and values are kept as: half (f16, on a GPU bf16), f32 (not on a GPU), fp8 (on a GPU "
     "alone; half the memory, a little less exact)."},
    {"weights", CHOICE(T, weights), "auto", NULL, NULL, "auto|bf16|fp8|int8",
     "What a GPU multiplies with: auto (bf16), bf16, fp8 (faster and less exact; a card without it: "
     "int8 of a quantised file, else bf16), int8. A CPU takes the file's numbers."},
    {"threads", U32(T, threads), "0", "0", "1024", NULL,
     "Threads of a CPU backend on this tier; 0: worker.threads."},
    {"gpu_share", F64(T, gpu_share), "1", "0.001", "1000000", NULL,
     "Its part of the device's price where one worker serves several tiers: this over the sum of "
     "theirs."},
    {"max_tokens_default", U32(T, max_tokens_default), "16", "1", "16777216", NULL,
     "Tokens that are generated where a request does not say."},
    {"request_time_limit", DURATION(T, request_time_limit_ms), "10m", "100ms", "30d", NULL,
     "How long one request may run, in all its attempts; then it fails."},
    {"sim.load_ns", U64(T, sim.load_ns), "0", "0", "1000000000000", NULL,
     "sim: nanoseconds that opening the model takes."},
    {"sim.fixed_ns", U64(T, sim.fixed_ns), "0", "0", "1000000000000", NULL,
     "sim: nanoseconds of each step."},
    {"sim.row_ns", U64(T, sim.row_ns), "0", "0", "1000000000000", NULL,
     "sim: nanoseconds of each token computed."},
    {"sim.kv_ns", U64(T, sim.kv_ns), "0", "0", "1000000000000", NULL,
     "sim: nanoseconds of each 1,024 tokens of context that attention reads."},
    {"sim.chunk_kv_ns", U64(T, sim.chunk_kv_ns), "0", "0", "1000000000000", NULL,
     "sim: the same for tokens of a prompt, which share what is read; 0: as sim.kv_ns."},
    {"sim.head_ns", U64(T, sim.head_ns), "0", "0", "1000000000000", NULL,
     "sim: nanoseconds of each token sampled."},
    {"sim.pace", F64(T, sim.pace), "0", "0", "1000", NULL,
     "sim: wall time per simulated time; 0: as fast as it goes, 1: real time."},
    {"sim.eos_per_million", U32(T, sim.eos_per_million), "0", "0", "1000000", NULL,
     "sim: the chance in a million that an answer ends with any token; 0: only max_tokens ends it."},
    {"sim.abort_token", U32(T, sim.abort_token), "0", "0", "255", NULL,
     "sim: a token (a byte of the prompt) that crashes the worker when it is read; 0: none. For tests."},
    {"sim.hang_token", U32(T, sim.hang_token), "0", "0", "255", NULL,
     "sim: likewise, one at which the device hangs."},
    {"sim.eat_token", U32(T, sim.eat_token), "0", "0", "255", NULL,
     "sim: likewise, one that takes memory until there is none."},
    {"sim.fail_token", U32(T, sim.fail_token), "0", "0", "255", NULL,
     "sim: likewise, one at which the device fails."},
};
#undef T
/* clang-format on */

const struct setting_table settings_rows = {rows, sizeof(rows) / sizeof(rows[0])};
const struct setting_table tier_rows = {tier, sizeof(tier) / sizeof(tier[0])};
