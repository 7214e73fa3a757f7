#!/usr/bin/env bash
# The bill, predicted: on the simulated device, whose prices are known, an independent calculator says
# what each request and each account must be, to the nanosecond.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings sequences=1
sed -i 's/sim: {.*/sim: {load_ns: 1234567, fixed_ns: 100003, row_ns: 1009, kv_ns: 107, head_ns: 53, pace: 0}/' \
    "$work/mserve.yaml"
set_up
python3 "$tree/tests/flow/books.py" requests 300 >"$work/job.jsonl"
ok "a job is submitted" mserve-submit "$work/job.jsonl"
worker one
ok "it is done" wait_until 60 all_done
stop one 60
begin_tokens=$(sql "select input_tokens - 1 from mserve.results where line = 0") # 1 where the model has a begin token
python3 "$tree/tests/flow/books.py" predict 1234567 100003 1009 107 53 300 "$begin_tokens" >"$work/predicted"
is "$(sql "select custom_id, gpu_ns from mserve.results order by line")" "$(head -300 "$work/predicted")" \
    "each row costs what the calculator says"
is "$(sql "select 'overhead', sum(overhead_ns) from mserve.worker_ledger union all
           select 'held', sum(held_ns) from mserve.worker_ledger")" "$(tail -2 "$work/predicted")" \
    "and so do the device's overhead and the time it was held"
is "$(sql "select sum(shared_ns), sum(recompute_ns), sum(idle_ns), sum(lost_ns), sum(wip_ns) from mserve.worker_ledger")" \
    "0|0|0|0|0" "the other accounts are empty"
ok "the ledger is balanced" ledger_is_balanced
sql "update mserve.results set gpu_ns = gpu_ns + 1 where line = 123"
is "$(sql "select unexplained_ns from mserve.ledger_check")" "-1" "a nanosecond added to a row shows as unexplained"
sql "update mserve.results set gpu_ns = gpu_ns - 1 where line = 123"

# ---- in one batch, ten times the tokens cost at least five times as much
write_settings sequences=16
for i in $(seq 0 15); do requests 1 $((i % 2 ? 200 : 20)) "$i"; done >"$work/pairs.jsonl"
ok "short and long answers in one batch" mserve-submit "$work/pairs.jsonl"
worker two
ok "are done" wait_until 60 all_done
is "$(sql "select min(gpu_ns) filter (where output_tokens = 200) >= 5 * max(gpu_ns) filter (where output_tokens = 20)
           from mserve.results where output_tokens in (20, 200) and worker = (select worker from mserve.workers where name = 'two')")" \
    t "ten times the tokens cost at least five times as much"
stop two 60
ok "the ledger is balanced to the end" ledger_is_balanced
done_testing
