/*
 * metrics_table.h: every number that a daemon shows at /metrics, one row each; docs/metrics.md is
 * written from it (config/metrics_reference_main.c) and a unit test holds the two together.
 *
 * NAMES are those of the OpenMetrics family: without _total, _info, _bucket. A family with a unit ends
 * with it. Base units only. In memory seconds are whole nanoseconds and ratios billionths, so that
 * counters add up exactly; they are divided when they are written out.
 *
 * LABELS are bounded: a family has none, or one whose values stand here. Whose requests they were
 * (tenant, job) is a question for SQL.
 *
 * A row that nothing writes is a mistake. So a number gets its row when the code that counts it does.
 */
#ifndef MSERVE_CONFIG_METRICS_TABLE_H
#define MSERVE_CONFIG_METRICS_TABLE_H

enum { METRICS_WORKER = 1 << 0, METRICS_SCHEDULER = 1 << 1, METRICS_ALL = 3 };

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_INFO };

/* clang-format off */

/* The values of a label: name of the list, key, and each value with its number. */
#define OUTCOME_VALUES(X) \
    X(OUTCOME_COMPLETED, "completed") X(OUTCOME_FAILED, "failed") \
    X(OUTCOME_CANCELLED, "cancelled") X(OUTCOME_EXPIRED, "expired")
#define REASON_VALUES(X) \
    X(REASON_PREEMPTED, "preempted") X(REASON_FENCED, "fenced") X(REASON_DEADLINE, "deadline") \
    X(REASON_CANCELLED, "cancelled") X(REASON_OTHER, "other")
#define TOKENS_VALUES(X) \
    X(TOKENS_INPUT, "input") X(TOKENS_OUTPUT, "output")
#define ACCOUNT_VALUES(X) \
    X(ACCOUNT_DELIVERED, "delivered") X(ACCOUNT_SHARED, "shared") \
    X(ACCOUNT_RECOMPUTE, "recompute") X(ACCOUNT_OVERHEAD, "overhead") X(ACCOUNT_IDLE, "idle")
#define OPEN_VALUES(X) \
    X(OPEN_VALIDATING, "validating") X(OPEN_IN_PROGRESS, "in_progress") \
    X(OPEN_CANCELLING, "cancelling")
#define ENDED_VALUES(X) \
    X(ENDED_COMPLETED, "completed") X(ENDED_EXPIRED, "expired") X(ENDED_CANCELLED, "cancelled")
#define TIMED_OUT_VALUES(X) \
    X(TIMED_OUT_WINDOW, "window") X(TIMED_OUT_UPLOAD, "upload")
#define ATTEMPT_VALUES(X) \
    X(ATTEMPT_DELIVERED, "delivered") X(ATTEMPT_RETRIED, "retried") \
    X(ATTEMPT_FAILED, "failed") X(ATTEMPT_DISABLED, "disabled")
#define WEBHOOK_VALUES(X) \
    X(WEBHOOK_RESTING, "resting") X(WEBHOOK_DISABLED, "disabled")

#define METRIC_LABELS(X) \
    X(OUTCOME,   "outcome") \
    X(REASON,    "reason") \
    X(TOKENS,    "type") \
    X(ACCOUNT,   "account") \
    X(OPEN,      "state") \
    X(ENDED,     "state") \
    X(TIMED_OUT, "what") \
    X(ATTEMPT,   "outcome") \
    X(WEBHOOK,   "state")

/* Upper bounds of the buckets of a histogram, in what it is kept in. */
#define BOUNDS_STEP \
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 25000000, 50000000, \
    100000000, 250000000, 500000000, 1000000000, 5000000000
#define BOUNDS_CALL \
    1000000, 2500000, 5000000, 10000000, 25000000, 50000000, 100000000, 250000000, 500000000, \
    1000000000, 2500000000, 5000000000, 10000000000, 30000000000, 60000000000
#define BOUNDS_COUNT \
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096

#define METRIC_BOUNDS(X) X(STEP) X(CALL) X(COUNT)

/* id, type, family, unit, programs, label, bounds, sentence */
#define METRICS(X) \
    X(BUILD, INFO, "mserve_build", "", ALL, NONE, NONE, \
      "What runs: version and program.") \
    X(PROCESS_CPU, COUNTER, "process_cpu_seconds", "seconds", ALL, NONE, NONE, \
      "CPU time of the process, user and system.") \
    X(PROCESS_RESIDENT, GAUGE, "process_resident_memory_bytes", "bytes", ALL, NONE, NONE, \
      "Memory of the process that is in RAM.") \
    X(PROCESS_VIRTUAL, GAUGE, "process_virtual_memory_bytes", "bytes", ALL, NONE, NONE, \
      "Address space of the process.") \
    X(PROCESS_FDS, GAUGE, "process_open_fds", "", ALL, NONE, NONE, \
      "Open file descriptors.") \
    X(PROCESS_FDS_MAX, GAUGE, "process_max_fds", "", ALL, NONE, NONE, \
      "File descriptors that may be open at once.") \
    X(PROCESS_START, GAUGE, "process_start_time_seconds", "seconds", ALL, NONE, NONE, \
      "When the process started, seconds since 1970.") \
    X(BURIALS, COUNTER, "mserve_burials", "", ALL, NONE, NONE, \
      "Workers whose lease had run out and whose books this process closed.") \
    \
    X(WORKER, INFO, "mserve_worker", "", WORKER, NONE, NONE, \
      "Which worker this is: its name, tier and backend.") \
    X(MODEL, INFO, "mserve_model", "", WORKER, NONE, NONE, \
      "The model that is loaded: its name, the sha256 of its file, and the numerics id; equal " \
      "ids, equal tokens.") \
    X(REQUESTS, COUNTER, "mserve_requests", "", WORKER, OUTCOME, NONE, \
      "Requests whose row this worker committed, by what the row says.") \
    X(ATTEMPTS, COUNTER, "mserve_attempts", "", WORKER, REASON, NONE, \
      "Runs of requests that ended without a row, by why.") \
    X(TOKENS, COUNTER, "mserve_tokens", "", WORKER, TOKENS, NONE, \
      "Tokens on committed rows: of prompts, and generated.") \
    X(TOKENS_CACHED, COUNTER, "mserve_cached_tokens", "", WORKER, NONE, NONE, \
      "Of the prompt tokens on committed rows, those that were found in the KV cache.") \
    X(TOKENS_SAMPLED, COUNTER, "mserve_sampled_tokens", "", WORKER, NONE, NONE, \
      "Tokens that the device sampled, as of the last commit; also those that came to no row.") \
    X(DEVICE_HELD, COUNTER, "mserve_device_held_seconds", "seconds", WORKER, NONE, NONE, \
      "Time that the worker has held its device, by the device's clock.") \
    X(DEVICE, COUNTER, "mserve_device_seconds", "seconds", WORKER, ACCOUNT, NONE, \
      "Where that time went: these and mserve_device_unfinished_seconds add up to it exactly.") \
    X(DEVICE_UNFINISHED, GAUGE, "mserve_device_unfinished_seconds", "seconds", WORKER, NONE, NONE, \
      "What the requests that now run have cost.") \
    X(DEVICE_LOST, COUNTER, "mserve_device_lost_seconds", "seconds", WORKER, NONE, NONE, \
      "Of the time delivered, what this worker's commits booked as lost.") \
    X(RUNNING, GAUGE, "mserve_requests_running", "", WORKER, NONE, NONE, \
      "Requests in the engine.") \
    X(READY, GAUGE, "mserve_requests_ready", "", WORKER, NONE, NONE, \
      "Requests that were read and wait for a place in the engine.") \
    X(READY_BYTES, GAUGE, "mserve_requests_ready_bytes", "bytes", WORKER, NONE, NONE, \
      "Memory that these take.") \
    X(UNREAD, GAUGE, "mserve_requests_unread", "", WORKER, NONE, NONE, \
      "Requests of chosen chunks that are yet to be read from Kafka.") \
    X(BATCHES, GAUGE, "mserve_batches_waiting", "", WORKER, NONE, NONE, \
      "Batches of results whose commit has not begun; more than 0 for long: PostgreSQL is slow " \
      "or away.") \
    X(STEPS, COUNTER, "mserve_steps", "", WORKER, NONE, NONE, \
      "Steps of the engine: passes over its batch.") \
    X(STEP_DURATION, HISTOGRAM, "mserve_step_duration_seconds", "seconds", WORKER, NONE, STEP, \
      "How long steps took, by the device's clock; those that a commit waited for are not " \
      "among them.") \
    X(STEP_SEQUENCES, HISTOGRAM, "mserve_step_sequences", "", WORKER, NONE, COUNT, \
      "How many requests shared a step: how full the batch is.") \
    X(SEQUENCES_MAX, GAUGE, "mserve_sequences_max", "", WORKER, NONE, NONE, \
      "How many requests may share a step: sequences_max of the tier.") \
    X(KV_USAGE, GAUGE, "mserve_kv_usage_ratio", "ratio", WORKER, NONE, NONE, \
      "Blocks of the KV cache that are in use or kept for later, of all of them.") \
    X(COMMIT_DURATION, HISTOGRAM, "mserve_commit_duration_seconds", "seconds", WORKER, NONE, CALL, \
      "How long commits took, from the first try to the answer that they had landed.") \
    X(COMMIT_ROWS, COUNTER, "mserve_commit_rows", "", WORKER, NONE, NONE, \
      "Result rows that commits inserted.") \
    X(COMMIT_RETRIES, COUNTER, "mserve_commit_retries", "", WORKER, NONE, NONE, \
      "Tries of a commit that had to be made again: PostgreSQL was away, a lock was busy, the " \
      "outcome was unknown.") \
    X(COMMIT_DUPLICATES, COUNTER, "mserve_commit_duplicate_rows", "", WORKER, NONE, NONE, \
      "Rows that were not inserted because there was one; their cost went to lost.") \
    X(COMMIT_UNSTORABLE, COUNTER, "mserve_commit_unstorable_rows", "", WORKER, NONE, NONE, \
      "Rows that PostgreSQL could not store, and that became failed rows.") \
    X(FENCED, COUNTER, "mserve_fenced_writes", "", WORKER, NONE, NONE, \
      "Partitions that a commit found to belong to another worker.") \
    X(CHECKPOINTS, COUNTER, "mserve_checkpoints", "", WORKER, NONE, NONE, \
      "Checkpoints of unfinished requests that were committed.") \
    X(CHECKPOINT_BYTES, COUNTER, "mserve_checkpoint_bytes", "bytes", WORKER, NONE, NONE, \
      "Size of their states.") \
    X(CHECKPOINT_TIME, GAUGE, "mserve_checkpoint_last_timestamp_seconds", "seconds", WORKER, NONE, \
      NONE, "When the last of them was committed, seconds since 1970; 0: none yet.") \
    X(CHECKPOINTS_UNUSABLE, COUNTER, "mserve_checkpoints_unusable", "", WORKER, NONE, NONE, \
      "Checkpoints that could not be used: damaged, or of another model; their requests started " \
      "over.") \
    X(TOKENS_RESUMED, COUNTER, "mserve_resumed_tokens", "", WORKER, NONE, NONE, \
      "Of the tokens generated on committed rows, those that earlier attempts had generated.") \
    X(GPU_MEMORY, GAUGE, "mserve_gpu_memory_bytes", "bytes", WORKER, NONE, NONE, \
      "Memory of the worker's GPU; this row and those up to mserve_gpu_sick are 0 without a GPU, " \
      "and where the driver does not say.") \
    X(GPU_MEMORY_USED, GAUGE, "mserve_gpu_memory_used_bytes", "bytes", WORKER, NONE, NONE, \
      "Of that, what is in use, by all processes.") \
    X(GPU_UTILISATION, GAUGE, "mserve_gpu_utilisation_ratio", "ratio", WORKER, NONE, NONE, \
      "Part of the driver's last sample period in which a kernel ran.") \
    X(GPU_POWER, GAUGE, "mserve_gpu_power_watts", "watts", WORKER, NONE, NONE, \
      "Power that the card draws.") \
    X(GPU_TEMPERATURE, GAUGE, "mserve_gpu_temperature_celsius", "celsius", WORKER, NONE, NONE, \
      "Temperature of its die.") \
    X(GPU_SLOWED, GAUGE, "mserve_gpu_slowed", "", WORKER, NONE, NONE, \
      "1: the hardware runs slower than it could, for heat, power or a brake.") \
    X(GPU_ECC, GAUGE, "mserve_gpu_ecc_uncorrected", "", WORKER, NONE, NONE, \
      "Memory errors that ECC could not correct, since the driver was loaded or the card reset.") \
    X(GPU_XIDS, COUNTER, "mserve_gpu_xids", "", WORKER, NONE, NONE, \
      "Errors (Xids) that the driver told of the card while this process had it.") \
    X(GPU_SICK, GAUGE, "mserve_gpu_sick", "", WORKER, NONE, NONE, \
      "1: the card is sick; the worker leaves, and /readyz and the log say of what.") \
    X(LEASE_LOST, COUNTER, "mserve_lease_lost", "", WORKER, NONE, NONE, \
      "How often this process was buried while it lived, and began anew under another id.") \
    X(LEASE_LEFT, GAUGE, "mserve_lease_left_seconds", "seconds", WORKER, NONE, NONE, \
      "How long the lease lasts if it is not renewed; below 0: it has run out.") \
    X(PARTITIONS, GAUGE, "mserve_partitions_held", "", WORKER, NONE, NONE, \
      "Partitions of the topic that this worker holds.") \
    X(CHUNKS, GAUGE, "mserve_chunks_held", "", WORKER, NONE, NONE, \
      "Chunks that this worker has taken and not finished.") \
    X(KAFKA_ERRORS, COUNTER, "mserve_kafka_errors", "", WORKER, NONE, NONE, \
      "Errors that the Kafka consumer met in place of messages.") \
    \
    X(ACTIVE, GAUGE, "mserve_scheduler_active", "", SCHEDULER, NONE, NONE, \
      "1: this scheduler did the work of the last round; 0: another one did, or nobody.") \
    X(ROUND_DURATION, HISTOGRAM, "mserve_round_duration_seconds", "seconds", SCHEDULER, NONE, CALL, \
      "How long rounds took.") \
    X(ROUND_FAILURES, COUNTER, "mserve_round_failures", "", SCHEDULER, NONE, NONE, \
      "Rounds that failed, most often because PostgreSQL was away.") \
    X(FOLDS, COUNTER, "mserve_folds", "", SCHEDULER, NONE, NONE, \
      "Transactions that folded progress into jobs.") \
    X(DELTAS, GAUGE, "mserve_deltas_waiting", "", SCHEDULER, NONE, NONE, \
      "Rows of progress that are not folded yet, counted up to 100000.") \
    X(DELTAS_AGE, GAUGE, "mserve_deltas_oldest_age_seconds", "seconds", SCHEDULER, NONE, NONE, \
      "For how long the oldest of them has been seen waiting; grows while nothing is folded.") \
    X(JOBS, GAUGE, "mserve_jobs", "", SCHEDULER, OPEN, NONE, \
      "Jobs that have not ended, by state.") \
    X(JOBS_ENDED, COUNTER, "mserve_jobs_ended", "", SCHEDULER, ENDED, NONE, \
      "Accepted jobs that this scheduler saw end, by state.") \
    X(JOBS_TIMED_OUT, COUNTER, "mserve_jobs_timed_out", "", SCHEDULER, TIMED_OUT, NONE, \
      "Jobs that it ended: their window passed, or their upload fell silent.") \
    X(JOBS_STUCK, GAUGE, "mserve_jobs_stuck", "", SCHEDULER, NONE, NONE, \
      "Jobs whose progress does not fit their counts; see the view ledger_check.") \
    X(SWEPT_ROWS, COUNTER, "mserve_swept_rows", "", SCHEDULER, NONE, NONE, \
      "Cancelled and expired rows that it wrote where no worker held the partition.") \
    X(WEBHOOK_ATTEMPTS, COUNTER, "mserve_webhook_attempts", "", SCHEDULER, ATTEMPT, NONE, \
      "Attempts to deliver an event to an endpoint, by what came of them; failed: no more are " \
      "made.") \
    X(WEBHOOK_DURATION, HISTOGRAM, "mserve_webhook_attempt_duration_seconds", "seconds", SCHEDULER, \
      NONE, CALL, "How long they took, from looking up the name to the end of the answer.") \
    X(WEBHOOK_DROPPED, COUNTER, "mserve_webhook_dropped", "", SCHEDULER, NONE, NONE, \
      "Deliveries that were dropped, because their endpoint was disabled.") \
    X(WEBHOOK_SENDING, GAUGE, "mserve_webhook_attempts_running", "", SCHEDULER, NONE, NONE, \
      "Attempts of this scheduler that are under way.") \
    X(WEBHOOK_UNRECORDED, GAUGE, "mserve_webhook_attempts_unrecorded", "", SCHEDULER, NONE, NONE, \
      "Attempts that have ended and wait for PostgreSQL to hear of it.") \
    X(WEBHOOK_PENDING, GAUGE, "mserve_webhook_pending", "", SCHEDULER, NONE, NONE, \
      "Deliveries that are owed, now or later, counted up to 100000.") \
    X(WEBHOOK_OLDEST, GAUGE, "mserve_webhook_oldest_age_seconds", "seconds", SCHEDULER, NONE, NONE, \
      "For how long the oldest of them has been due; 0: none is.") \
    X(WEBHOOK_ENDPOINTS, GAUGE, "mserve_webhook_endpoints", "", SCHEDULER, WEBHOOK, NONE, \
      "Endpoints that get nothing now: left in peace for a while, or disabled.")

/* clang-format on */

enum metric {
#define X(id, type, family, unit, programs, label, bounds, sentence) METRIC_##id,
    METRICS(X)
#undef X
        METRIC_COUNT
};

/* The numbers of a label's values: what metrics_add() takes as `value`. */
#define X(id, name) id,
enum { OUTCOME_VALUES(X) OUTCOME_COUNT };
enum { REASON_VALUES(X) REASON_COUNT };
enum { TOKENS_VALUES(X) TOKENS_COUNT };
enum { ACCOUNT_VALUES(X) ACCOUNT_COUNT };
enum { OPEN_VALUES(X) OPEN_COUNT };
enum { ENDED_VALUES(X) ENDED_COUNT };
enum { TIMED_OUT_VALUES(X) TIMED_OUT_COUNT };
enum { ATTEMPT_VALUES(X) ATTEMPT_COUNT };
enum { WEBHOOK_VALUES(X) WEBHOOK_COUNT };
#undef X

#endif
