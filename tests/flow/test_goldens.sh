#!/usr/bin/env bash
# The reference results of llama.cpp come out of the whole chain: submit, Kafka, worker, PostgreSQL,
# mserve results; with the reference backend and with the fast one.
. "$(dirname "$0")/lib.sh"

shared=${MSERVE_SHARED:-$tree/../shared}
model=$shared/assets/models/derived/stories260K.f32.gguf
goldens=${model%.f32.gguf}.llamacpp-goldens.a.jsonl
why='reads ../shared, which lies beside the repository only where it is developed'
if [ ! -f "$model" ]; then
    skip the_reference_results "$why"
    done_testing
fi

goldens_of() { # goldens_of BACKEND
    local backend=$1 url file
    fresh_database
    fresh_topics
    cat >"$work/mserve.yaml" <<YAML
kafka: {partitions: 4}
tiers:
  - name: stories
    backend: $backend
    model: $model
    sha256: 047bf46455a544931cff6fef14d7910154c56afbc23ab1c5e56a72e69912c04b
    served_names: [stories]
    sequences_max: 5
    context_max: 256
    rows_max: 48
YAML
    export MSERVE_CONFIG=$work/mserve.yaml
    ok "$backend: the schema is made" mserve migrate
    ok "$backend: the topic is made" mserve topics
    start "scheduler-$backend" mserve-scheduler
    start "worker-$backend" mserve-worker --tier stories

    for url in /v1/completions /v1/embeddings; do
        file=$work/$backend-${url##*/}
        python3 "$tree/tests/flow/goldens.py" requests "$goldens" $url >"$file.jsonl"
        is "$(wc -l <"$file.jsonl")" 12 "$backend $url: the 12 reference prompts"
        ok "$backend $url: submitted, run, and written" mserve-submit --wait --output "$file.results" "$file.jsonl"
        ok "$backend $url: exactly what the reference says" \
            python3 "$tree/tests/flow/goldens.py" compare "$goldens" "$file.results"
    done

    is "$(sql "select unexplained_ns, jobs_unexplained_ns, jobs_differ, bitmaps_differ, workers_differ
               from mserve.ledger_check")" "0|0|0|0|0" "$backend: the books add up"
    is "$(sql "select count(*) from mserve.results where gpu_ns > 0")" 24 "$backend: each row has its price"
    is "$(sql "select count(*) from mserve.workers where numerics = '$backend' or numerics like '$backend/%'")" 1 "$backend computed them"
    stop "worker-$backend" 30
    stop "scheduler-$backend" 10
}

goldens_of ref
goldens_of cpu
done_testing
