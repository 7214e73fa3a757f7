#!/usr/bin/env bash
# A tier that asks for a GPU. Where there is none it runs on the processor, says so once, and its
# answers are those of the processor; on the card that the emulation plays, a worker is killed in the
# middle of a job, and every answer is the one of an undisturbed run.
. "$(dirname "$0")/worker_lib.sh"

export MSERVE_CACHE=$work/cache # where products that were chosen are remembered
export CUDA_VISIBLE_DEVICES=    # a machine that has a GPU has none for this test
unset MSERVE_GPU_MODULE MSERVE_EMU

settings() { # settings BACKEND
    cat >"$work/mserve.yaml" <<YAML
kafka: {partitions: 2}
submit: {chunk_lines_min: 16}
worker: {lease: 1s, renew: 200ms, drain: 2s, commit_interval: 50ms, checkpoint_interval: 200ms}
tiers:
  - {name: demo, backend: $1, threads: 1, model: $tree/deploy/demo/mserve-demo-lang.gguf,
     served_names: [demo], sequences_max: 4, rows_max: 64, context_max: 128}
YAML
    export MSERVE_CONFIG=$work/mserve.yaml
}

outputs() { # all that the model said, of the newest job
    sql "select r.custom_id, r.response->'choices' from mserve.results r
         where r.job = (select job from mserve.jobs order by created_at desc limit 1) order by r.line"
}

# job NAME: the requests once more, run by a worker that nothing happens to
job() {
    ok "$1: six requests, greedy and sampled" mserve-submit --new "$work/job.jsonl"
    start "$1" mserve-worker --name "$1"
    ok "$1: they are answered" wait_until 120 all_done
    stop "$1" 60
    is $? 0 "$1: it leaves in good order"
    outputs >"$work/$1.out"
}

saved_are() { # saved_are COUNT TOKENS: checkpoints with so many tokens
    [ "$(sql "select count(*) from mserve.checkpoints where tokens >= $2")" -ge "$1" ]
}

fresh_database
fresh_topics
settings cpu
set_up
python3 - >"$work/job.jsonl" <<'PY'
import json
for i in range(6):
    body = {"model": "demo", "prompt": f"{i} words", "max_tokens": 48 + i, "ignore_eos": True}
    body.update({"temperature": 0} if i % 2 else {"temperature": 0.9, "top_p": 0.95, "seed": i})
    print(json.dumps({"custom_id": f"r-{i}", "method": "POST", "url": "/v1/completions", "body": body}))
PY

# ---- no GPU, no driver
job processor
settings cuda
job absent
is "$(grep -c event=backend.absent "$work/absent.log")" 1 "that there is no GPU is said once"
like "$(grep event=backend.absent "$work/absent.log")" 'backend=cuda instead=cpu why="[^"]+"' "with what runs instead, and why"
is "$(cat "$work/absent.out")" "$(cat "$work/processor.out")" "the answers are the processor's"

# ---- a card that is played
settings cuda-emu
job undisturbed
is "$(sql "select count(*) from mserve.results where status = 'completed' and output_tokens >= 48")" 18 "with as many tokens as were asked for"
ok "the same requests again" mserve-submit --new "$work/job.jsonl"
start first mserve-worker --name first
wait_until 60 saved_are 2 4 || bail "they run, and are saved"
kill_hard first
start second mserve-worker --name second
ok "another worker goes on, and finishes them" wait_until 120 all_done
stop second 60
is $? 0 "it leaves in good order"
outputs >"$work/resumed.out"
is "$(cat "$work/resumed.out")" "$(cat "$work/undisturbed.out")" "the answers are those of the undisturbed run"
ok "some went on from what was saved" sql_is t "select sum(taken_over_ns) > 0 from mserve.worker_ledger"
ok "each line once, none beside" whole
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "for the operator's view too" ledger_is_balanced
is "$(sql "select count(*) from mserve.checkpoints")" 0 "no checkpoint is left"
done_testing
