#!/usr/bin/env bash
# Workers on an emulated GPU: each card has one, a card that falls sick is left and marked, and several
# tiers share one only where they fit.
. "$(dirname "$0")/worker_lib.sh"
export MSERVE_WORKER_GUARD=on

fresh_database
fresh_topics
mkdir "$work/cards"
: >"$work/nvml"
export MSERVE_EMU="memory_mib=2048,nvml=$work/nvml"
write_settings more="  gpu_dir: $work/cards"
sed -i '/^tiers:/,$d' "$work/mserve.yaml"
cat >>"$work/mserve.yaml" <<YAML
tiers:
  - name: fast
    backend: cuda-emu
    served_names: [quick]
    model: $tree/deploy/demo/mserve-demo-lang.gguf
    sequences_max: 4
    rows_max: 64
    context_max: 256
    chat_format: plain
  - name: balanced
    backend: cuda-emu
    served_names: [sound]
    model: $tree/deploy/demo/mserve-demo-lang.gguf
    sequences_max: 4
    rows_max: 64
    context_max: 256
    chat_format: plain
YAML
set_up
registered() { sql_is 1 "select count(*) from mserve.workers where name = '$1' and closed_at is null and device = 'emulated GPU'"; }

# ---- a card that falls sick
start one mserve-worker --name one --tier fast
ok "a worker works on the GPU, and its row names it" wait_until 60 registered one
start other mserve-worker --name other --tier fast
await other 30
is $? 11 "another finds no card"
like "$(log_of other)" "no GPU can be had: 0 GPU-[-0-9a-f]* emulated GPU .*taken by process" "and is told which there are and who has them"
echo xid=31 >"$work/nvml"
ok "an error of the program's own is told of" wait_until 20 grep -q "event=gpu.xid.*xid=31" "$work/one.log"
ok "and nobody leaves for it" is_running one
echo xid=79 >>"$work/nvml"
await one 40
is $? 11 "a card that falls off the bus is left"
like "$(sql "select drain_why from mserve.workers where name = 'one'")" "^sick: GPU-.*: Xid 79: it fell off the bus" "the row says which, and of what"
is "$(sql "select closed_why from mserve.workers where name = 'one'")" drained "its books are closed"
start again mserve-worker --name again --tier fast
await again 30
is $? 11 "the card is left alone"
like "$(log_of again)" "sick \(Xid 79: it fell off the bus\), left alone for" "for a while"
rm "$work"/cards/*
start mended mserve-worker --name mended --tier fast
ok "when its file is removed it is taken again" wait_until 60 registered mended
stop mended 40
is $? 0 "and left in good order"

# ---- several tiers on one card
start both mserve-worker --name both --tier fast --tier balanced
ok "two tiers share a card" wait_until 90 sql_is 2 "select count(*) from mserve.workers where name like 'both.%' and closed_at is null"
is "$(grep -c 'event=gpu.plan msg="tier ' "$work/both.log")" 2 "after a plan with a line for each"
stop both 60
is $? 0 "and leave together"
MSERVE_EMU="memory_mib=512" start none mserve-worker --name none --tier fast --tier balanced
await none 30
is $? 1 "a plan that does not fit is refused"
like "$(log_of none)" "GiB are missing" "with its sum"
is "$(unexplained)" "0|0|0|0" "the books add up"
done_testing
