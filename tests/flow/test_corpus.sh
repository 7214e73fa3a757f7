#!/usr/bin/env bash
# The 772 PEP and EIP documents as one job: a row each, none lost, the costs sum to the ledger. A
# document that does not fit the context is a failed row, unless truncation was asked for.
. "$(dirname "$0")/lib.sh"

shared=${MSERVE_SHARED:-$tree/../shared}
model=$shared/assets/models/derived/stories260K.f32.gguf
archives=("$shared"/assets/corpus/{eips-below-7000,peps-0001-0699}.tar)
if [ ! -f "$model" ]; then
    skip the_documents 'reads ../shared, which lies beside the repository only where it is developed'
    done_testing
fi

fresh_database
fresh_topics
cat >"$work/mserve.yaml" <<YAML
kafka: {partitions: 4}
worker: {price_per_gpu_hour: 0.10}
tiers:
  # Longer than the model was trained for, so that some documents fit; what it says does not matter.
  - {name: whole, backend: ref, model: $model, served_names: [whole], sequences_max: 16,
     rows_max: 512, context_max: 1024}
  - {name: truncate, backend: ref, model: $model, served_names: [truncate], sequences_max: 32,
     rows_max: 512}
YAML
export MSERVE_CONFIG=$work/mserve.yaml
ok "the schema is made" mserve migrate
ok "the topics are made" mserve topics
start scheduler mserve-scheduler
start worker_whole mserve-worker --tier whole
start worker_truncate mserve-worker --tier truncate

# run MODE EXPECTED_STATUS: submits all documents and waits
run() {
    local status=0
    python3 "$tree/tests/flow/corpus.py" "$1" "${archives[@]}" >"$work/$1.jsonl"
    mserve-submit --wait "$work/$1.jsonl" >"$work/$1.out" 2>"$work/submit-$1.log" || status=$?
    is $status "$2" "$1: the job ends, with exit status $2"
    job=$(sql "select job from mserve.jobs order by job desc limit 1")
    is "$(sql "select count(*), count(distinct custom_id) from mserve.results where job = '$job'")" \
        "772|772" "$1: one row for each document"
    is "$(sql "select completed + failed = 772 and completed = (select count(*) from mserve.results
               where job = '$job' and status = 'completed') from mserve.jobs where job = '$job'")" t \
        "$1: the job's counts are those of its rows"
    note "$1: $(sql "select completed || ' completed, ' || failed || ' failed of ' || lines
                     || ' documents, ' || input_tokens || ' tokens read, ' || rows_ns / 1000000
                     || ' ms of device time' from mserve.jobs where job = '$job'")"
}

run whole 6
is "$(sql "select count(*) from mserve.results where job = '$job' and status = 'failed'
           and (status_code, response->'error'->>'code') is distinct from (400, 'context_length_exceeded')")" 0 \
    "whole: what failed does not fit the context, and says so"
is "$(sql "select count(distinct status) from mserve.results where job = '$job'")" 2 \
    "whole: some documents fit, others do not"

run truncate 0
is "$(sql "select count(*) from mserve.results where job = '$job' and status = 'completed'")" 772 \
    "truncate: every document has its answer"

is "$(sql "select unexplained_ns, jobs_unexplained_ns, jobs_differ, bitmaps_differ, workers_differ
           from mserve.ledger_check")" "0|0|0|0|0" "the costs sum to the ledger"
is "$(sql "select sum(gpu_ns) from mserve.results")" "$(sql "select sum(rows_ns) from mserve.worker_ledger")" \
    "to the nanosecond"
done_testing
