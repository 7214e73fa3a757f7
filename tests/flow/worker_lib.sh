# worker_lib.sh: what the tests of the worker have in common: a tier on the simulated device, jobs put
# on the queue by tests/bench/feed, and the books checked by plain sums.
# shellcheck shell=bash disable=SC2034
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$MSERVE_BIN/tests/bench:$PATH

# write_settings NAME=VALUE...: of the sim tier and the worker; more= lines of the worker. With pace 1 a
# step takes fixed_ns.
write_settings() {
    local fixed_ns=100000 pace=0 sequences=16 lease=2s renew=500ms hung=5m drain=30s rows=64 interval=100ms
    local limit=10m context=2048 partitions=8 load_ns=1000000 wait=10s poison= more="" pair
    for pair; do local "${pair?}"; done
    cat >"$work/mserve.yaml" <<YAML
kafka:
  partitions: $partitions
worker:
  lease: $lease
  renew: $renew
  hung_after: $hung
  drain: $drain
  commit_rows: $rows
  commit_interval: $interval
  restart_max: 200ms
  suspect_wait: $wait
  price_per_gpu_hour: 3.6
$more
tiers:
  - name: sim
    backend: sim
    served_names: [sim]
    sequences_max: $sequences
    rows_max: 4096
    context_max: $context
    request_time_limit: $limit
    sim: {load_ns: $load_ns, fixed_ns: $fixed_ns, row_ns: 1000, kv_ns: 100, head_ns: 50, pace: $pace${poison:+, $poison}}
YAML
    export MSERVE_CONFIG=$work/mserve.yaml
}

worker() { start "$1" mserve-worker --name "$1"; } # worker NAME
# SIGTERM would not just end it: it has come so far that it has a handler of its own, and not this shell's.
hears_signals() { # hears_signals NAME
    local caught
    [ "$(cat "/proc/$(pid_of "$1")/comm" 2>/dev/null)" = mserve-worker ] || return
    caught=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$(pid_of "$1")/status" 2>/dev/null)
    [ $((0x${caught:-0} & 0x4000)) != 0 ]
}

rows() { sql "select count(*) from mserve.results"; }

# Every line of every sealed job once, and no other row.
whole() {
    [ "$(sql "select count(*) from (select job, line from mserve.jobs, generate_series(0, lines - 1) line) l
              full join mserve.results r using (job, line) where r.custom_id is null or
              (job, line) not in (select job, line from mserve.jobs, generate_series(0, lines - 1) line)")" = 0 ]
}

all_done() { [ "$(sql "select coalesce(sum(lines), 0) from mserve.jobs")" = "$(rows)" ]; }

# What does not add up, in nanoseconds, from the tables alone: each worker's ledger, its held time
# against its row, the rows, and the attempts. "0|0|0|0" is right.
unexplained() {
    sql "select
      (select coalesce(sum(abs(held_ns + taken_over_ns - rows_ns - handed_over_ns - wip_ns - shared_ns
          - recompute_ns - overhead_ns - idle_ns - lost_ns)), 0) from mserve.worker_ledger),
      (select coalesce(sum(abs(w.booked_ns - coalesce(l.held, 0)) + abs(w.wip_ns - coalesce(l.wip, 0))), 0)
        from mserve.workers w left join (select worker, sum(held_ns) held, sum(wip_ns) wip
          from mserve.worker_ledger group by worker) l using (worker)),
      (select coalesce(sum(rows_ns), 0) from mserve.worker_ledger)
        - (select coalesce(sum(gpu_ns), 0) from mserve.results),
      (select count(*) from mserve.attempts a where not exists
        (select from mserve.worker_ledger l where l.worker = a.worker and l.seq = a.seq and l.lost_ns >= a.gpu_ns))"
}

# The same by the view that operators have, and that jobs, bitmaps and workers agree with the rows,
# checkpoints with the ledger, and attempts with the jobs.
ledger_is_balanced() {
    [ "$(sql "select unexplained_ns, jobs_unexplained_ns, jobs_differ, bitmaps_differ, workers_differ,
              checkpoints_unexplained_ns, checkpoints_differ, attempts_differ
              from mserve.ledger_check")" = "0|0|0|0|0|0|0|0" ]
}

# Makes schema and topic as a person does: `mserve migrate` and `mserve topics`.
set_up() { ok "schema and topics are made" eval "mserve migrate && mserve topics"; }

# requests COUNT TOKENS FIRST [TEXT]: lines in the OpenAI batch format for tier sim.
requests() {
    awk -v n="$1" -v tokens="$2" -v first="${3:-0}" -v text="${4:-}" 'BEGIN { for (i = first; i < first + n; i++)
        printf "{\"custom_id\":\"c-%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"model\":\"sim\",\"max_tokens\":%d,\"prompt\":\"%s document number %d and some words behind it\"}}\n", i, tokens, text, i }'
}

# mixed_requests COUNT MIN MAX: the same, each four of as many tokens as chance will have.
mixed_requests() {
    for _ in $(seq $(($1 / 4))); do requests 4 $(($2 + RANDOM % ($3 - $2 + 1))); done |
        awk '{ sub(/"c-[0-9]*"/, "\"c-" NR "\""); print }'
}

# keep_fed MIN MAX: jobs of mixed requests, until 2,000 wait or run.
keep_fed() {
    while [ "$(sql "select coalesce(sum(lines - done_count), 0) from mserve.chunks")" -lt 2000 ]; do
        mixed_requests 1000 "$1" "$2" >"$work/input.jsonl"
        mserve-submit --tier sim --new "$work/input.jsonl" >/dev/null 2>>"$work/submit.log" ||
            bail "submit" "$(cat "$work/submit.log")"
    done
}
