#!/usr/bin/env bash
# The preemption bill, on rows made by hand whose sums are known: what a job cost, what spot saved, what
# preemption cost, and a month by tenant, tag, model and capacity that adds up to the ledger.
. "$(dirname "$0")/lib.sh"

fresh_database
export MSERVE_CONFIG=$tree/config/mserve.yaml
ok "the schema is made" mserve migrate

# Two workers: spot at 3,600 an hour that would be 9,000 on demand, so that a second is 1 and 2.50, and
# one on demand at 9,000. Two tenants, three jobs, November and one commit of
# October. Odd nanoseconds, so that a figure cut anywhere shows.
sql "insert into mserve.tenants (tenant) values ('acme');
  insert into mserve.workers (worker, token, name, host, pid, topics, device, model, price_per_hour, currency, capacity,
      price_on_demand_per_hour, lease_ms, lease_until, ledger_seq, booked_ns, reported_ns, closed_at, closed_why) values
    ('00000000-0000-7000-8000-000000000001', 1, 'spot', 'h', 1, '{t}', 'gpu', 'small', 3600, 'EUR', 'spot', 9000, 1000, now(), 3, 0, 0, now(), 'drained'),
    ('00000000-0000-7000-8000-000000000002', 1, 'own', 'h', 1, '{t}', 'gpu', 'large', 9000, 'EUR', 'on_demand', null, 1000, now(), 1, 0, 0, now(), 'drained');
  insert into mserve.jobs (job, tenant, idempotency_key, content_sha256, input_name, endpoint, tier, topic, partitions,
      partition_first, chunk_lines_max, chunk_bytes_max, completion_window, metadata, state, lines, completed, expires_at,
      rows_ns, shared_ns, recompute_ns, lost_ns) values
    ('0192f2a8-0000-7000-8000-00000000000a', 'default', 'a', '', 'a', '/v1/completions', 't', 't', 1, 0, 16, 1000, '24h',
      '{\"team\": \"search, \\\"EU\\\"\"}', 'completed', 2, 2, now() + interval '1 h', 5000000002, 600000003, 1000000001, 2000000002),
    ('0192f2a8-0000-7000-8000-00000000000b', 'acme', 'b', '', 'b', '/v1/completions', 't', 't', 1, 0, 16, 1000, '24h',
      '{\"team\": \"ads\"}', 'completed', 1, 1, now() + interval '1 h', 4000000001, 300000000, 0, 0),
    ('0192f2a8-0000-7000-8000-00000000000c', 'default', 'c', '', 'c', '/v1/completions', 't', 't', 1, 0, 16, 1000, '24h',
      null, 'completed', 1, 1, now() + interval '1 h', 7000000001, 0, 0, 0);
  insert into mserve.results (job, line, custom_id, status, gpu_ns, recompute_ns, attempt, worker, finished_at) values
    ('0192f2a8-0000-7000-8000-00000000000a', 0, 'x', 'completed', 2000000001, 0, 1, '00000000-0000-7000-8000-000000000001', '2026-10-31 23:59:59.9+00'),
    ('0192f2a8-0000-7000-8000-00000000000a', 1, 'y', 'completed', 3000000001, 1000000001, 2, '00000000-0000-7000-8000-000000000001', '2026-11-02 00:00:00+00'),
    ('0192f2a8-0000-7000-8000-00000000000b', 0, 'x', 'completed', 4000000001, 0, 1, '00000000-0000-7000-8000-000000000001', '2026-11-02 00:00:00+00'),
    ('0192f2a8-0000-7000-8000-00000000000c', 0, 'x', 'completed', 7000000001, 0, 1, '00000000-0000-7000-8000-000000000002', '2026-11-02 00:00:00+00');
  insert into mserve.attempts (worker, seq, job, line, gpu_ns, why, attempt, tokens_kept, tokens_lost, kept_ns, recompute_ns, estimated, at) values
    ('00000000-0000-7000-8000-000000000001', 2, '0192f2a8-0000-7000-8000-00000000000a', 1, 1500000001, 'vanished', 1, 40, null, 500000000, 0, true, '2026-11-02 00:00:01+00'),
    ('00000000-0000-7000-8000-000000000001', 2, '0192f2a8-0000-7000-8000-00000000000a', 0, 500000001, 'preempted', 1, 12, 3, 100000000, 0, false, '2026-11-02 00:00:01+00');
  -- held, rows, wip, shared, recompute, overhead, idle, lost
  insert into mserve.worker_ledger (worker, seq, held_ns, rows_ns, wip_ns, shared_ns, recompute_ns, overhead_ns, idle_ns, lost_ns, at) values
    ('00000000-0000-7000-8000-000000000001', 1, 3000000001, 2000000001, 0, 400000000, 0, 100000000, 500000000, 0, '2026-10-31 23:59:59.95+00'),
    ('00000000-0000-7000-8000-000000000001', 2, 15500000013, 7000000002, 0, 500000003, 1000000001, 2000000003, 2500000001, 2500000003, '2026-11-02 00:00:01+00'),
    ('00000000-0000-7000-8000-000000000002', 1, 10000000007, 7000000001, 1000000001, 0, 0, 1000000002, 1000000003, 0, '2026-11-02 00:00:01+00')" || bail "rows by hand"
is "$(sql "select sum(held_ns - rows_ns - wip_ns - shared_ns - recompute_ns - overhead_ns - idle_ns - lost_ns) from mserve.worker_ledger")" 0 \
    "the rows made by hand balance"

# ---------------------------------------------------------------- a job
job=batch_0192f2a8000070008000000000000 # of the three
said=$(mserve cost "${job}00a")
note "$said"
like "$said" "on demand +14\.000000013 EUR" "a job: its rows and prefixes at the price on demand"
like "$said" "vanished +1 +1 +40 +- +0\.500 +1\.500 +0\.000 +1\.500000001 EUR" "an attempt that a burial estimated: what was lost, and what nobody knows"
like "$said" "preempted +1 +0 +12 +3 +0\.100 +0\.500 +0\.000 +0\.500000001 EUR" "an attempt that was asked to go: tokens kept and lost"
# (5.000000002 + 0.600000003) s at 1 and at 2.50, and 3.000000003 s lost and read again at 1
is "$(sql "select charged_money, preemption_money, on_demand_money, saved_money, preemption_ns from mserve.job_bill where job = '0192f2a8-0000-7000-8000-00000000000a'")" \
    "5.600000005|3.000000003|14.000000013|5.400000005|3000000003" "charged, preemption, on demand, saved: to the billionth"
is "$(mserve cost --json "${job}00a" | python3 -c 'import json,sys; o = json.load(sys.stdin); print([a["why"] for a in o["attempts"]], o["attempts"][1]["tokens_lost"], o["saved_money"])')" \
    "['vanished', 'preempted'] 3 $(sql "select trim_scale(saved_money) from mserve.job_bill where job = '0192f2a8-0000-7000-8000-00000000000a'")" "as JSON, with its attempts"
is "$(mserve cost "${job}00c" | grep -c 'saved .* 0\.000000000 EUR')" 1 "a worker on demand saves nothing"
not_ok "a job without attempts has no table of them" eval "mserve cost ${job}00c | grep -q ended"

# ---------------------------------------------------------------- a month
# shared of November, 0.500000003 s, is split as the two jobs share in all
shared=$(((500000003 * 600000003) / 900000003))
sums() { # sums: the columns of a CSV, added up by another program than made them
    python3 -c '
import csv, sys
from decimal import Decimal
rows = list(csv.DictReader(sys.stdin))
print(*[sum(Decimal(r[c]) for r in rows) for c in rows[0] if c not in ("name", "currency")], sep="|")'
}
november="3|25500000020|14000000003|500000003|1000000001|2500000003|3000000005|3500000004|1000000001"
for by in tenant model capacity tag:team tag:nothing; do
    is "$(mserve cost --by $by --month 2026-11 --csv | sums)" "$november|40.50|63.75|23.25|3.50" \
        "November by $by adds up to the ledger, to the nanosecond and to the cent"
done
is "$(sql "select sum(held_ns) from mserve.worker_ledger where at >= '2026-11-01 00:00+00'")" 25500000020 "which held that much"
is "$(mserve cost --by tenant --month 2026-10 --csv | sums)" "1|3000000001|2000000001|400000000|0|0|100000000|500000000|0|3.00|7.50|4.50|0.00" "October, too"
is "$(mserve cost --by tenant --month 2026-11 --csv | cut -d, -f 1-11)" \
    "name,currency,requests,held_ns,rows_ns,shared_ns,recompute_ns,lost_ns,overhead_ns,idle_ns,open_ns
\"(no job)\",\"EUR\",0,$((1 + 500000001 + 3000000005 + 3500000004 + 1000000001)),0,1,0,500000001,3000000005,3500000004,1000000001
\"acme\",\"EUR\",1,$((4000000001 + 500000003 - shared - 1)),4000000001,$((500000003 - shared - 1)),0,0,0,0,0
\"default\",\"EUR\",2,$((10000000002 + shared + 1000000001 + 2000000002)),10000000002,$shared,1000000001,2000000002,0,0,0" \
    "by tenant: what each bore, and what no job did"
is "$(mserve cost --by capacity --month 2026-11 --csv | sed 1d | cut -d, -f 1,4,12-)" \
    "\"on_demand\",10000000007,25.00,25.00,0.00,0.00
\"spot\",15500000013,15.50,38.75,23.25,3.50" "by capacity: spot saves, on demand does not"
is "$(mserve cost --by tag:team --month 2026-11 --csv | sed -n 's/,"EUR".*//p' | paste -sd ' ')" '"(no job)" "(none)" "ads" "search, ""EU"""' \
    "by a key of the metadata, quoted as CSV wants it"
is "$(mserve cost --by model --month 2026-11 --json | python3 -c '
import json, sys
o = json.load(sys.stdin)
print(o["month"], o["by"], [l["name"] for l in o["lines"]], sum(l["held_ns"] for l in o["lines"]) == o["totals"][0]["held_ns"], o["totals"][0]["name"])')" \
    "2026-11 model ['large', 'small'] True None" "as JSON, with the total of the ledger beside the lines"
said=$(mserve cost --by capacity --month 2026-11)
note "$said"
like "$said" "total +3 +25\.500 +14\.000 .* 40\.50 +63\.75 +23\.25 +3\.50 EUR" "as a table, with its total"
is "$(mserve cost --by tenant --month 2001-01 --csv | wc -l)" 1 "a month without work has no lines"
for wrong in "--by colour" "--by tag:" "--by tenant --month 2026-13" "--by tenant --month 26-11" "--by tenant ${job}00a" "" "--month 2026-11 ${job}00a" "--by tenant --csv --json"; do
    # shellcheck disable=SC2086
    mserve cost $wrong >"$work/said" 2>&1
    is "$? $(wc -l <"$work/said")" "1 1" "refused in one sentence: mserve cost $wrong"
done

# What is not on a row yet stands in no job, and goes on adding up when it is.
sql "insert into mserve.worker_ledger (worker, seq, held_ns, taken_over_ns, rows_ns, handed_over_ns, wip_ns, shared_ns, recompute_ns, overhead_ns, idle_ns, lost_ns, at) values
    ('00000000-0000-7000-8000-000000000002', 2, 100, 30, 0, 130, 0, 0, 0, 0, 0, 0, '2026-11-03 00:00+00')"
is "$(mserve cost --by tenant --month 2026-11 --csv | sums | cut -d '|' -f 2,9)" "25500000120|1000000101" "what was handed over to a checkpoint is open"
done_testing
