#!/usr/bin/env bash
# test_watch.sh: the numbers that a person sees while a job runs: they agree with the rows at every
# moment, they never go back, also when a worker is killed, and in a pipe they are plain lines.
. "$(dirname "$0")/worker_lib.sh"
fresh_database
fresh_topics
write_settings fixed_ns=4000000 pace=1 sequences=16 lease=1s renew=300ms interval=50ms more='  checkpoint_interval: 200ms'
set_up
mixed_requests 1200 10 40 >"$work/input.jsonl"
start scheduler mserve-scheduler
worker one
worker two
job=$(mserve-submit --tier sim "$work/input.jsonl" 2>/dev/null | cut -d' ' -f1)
id=$(sql "select job from mserve.jobs")
start watch mserve watch --every 200ms "$job"

# One snapshot for both: what `mserve watch` asks, and the rows themselves.
query=$(sed -e '/^--/d' -e "s/\$1/'$id'/g" -e 's/;$//' "$tree/sql/queries/job_progress.sql")
look() {
    sql "begin isolation level repeatable read;
         with p(state, lines, completed, failed, cancelled, expired, input, output, rows_ns, device_ns,
             devices, charged, hold) as ($query)
         select p.completed, p.device_ns,
           (p.completed, p.failed, p.cancelled, p.expired, p.input, p.output, p.rows_ns)
             = (select count(*) filter (where status = 'completed'), count(*) filter (where status = 'failed'),
                 count(*) filter (where status = 'cancelled'), count(*) filter (where status = 'expired'),
                 coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
                 coalesce(sum(gpu_ns), 0)::bigint
               from mserve.results where job = '$id'),
           coalesce(split_part(p.charged, ' ', 1)::numeric, 0)
             = round(1e-12 * (select (select coalesce(sum(gpu_ns), 0) from mserve.results where job = '$id')
               + sum(shared_ns) from (select shared_ns from mserve.jobs where job = '$id' union all
                 select shared_ns from mserve.job_deltas where job = '$id') s), 9)
           from p; commit"
}
sight() { look >>"$work/sights"; }
halfway() { sight; [ "$(rows)" -ge 400 ]; }
ended() { sight; [ "$(sql "select state from mserve.jobs")" = completed ]; }

wait_until 60 halfway || bail "a third of the requests is done"
kill_hard one
ok "after a worker was killed the other does the rest" wait_until 90 ended
sight
[ -s "$work/sights" ]; is $? 0 "it was looked at $(wc -l <"$work/sights") times"
is "$(cut -d'|' -f3,4 "$work/sights" | sort | uniq -c | sed 's/^ *[0-9]* //')" "t|t" \
    "counts, tokens, device time and money are those of the rows, each time"
is "$(cut -d'|' -f1 "$work/sights" | sort -nc 2>&1)" "" "what is done never gets less"
is "$(cut -d'|' -f2 "$work/sights" | sort -nc 2>&1)" "" "nor does device time, what is unfinished included"
is "$(tail -n 1 "$work/sights" | cut -d'|' -f1)" 1200 "to the end"
await watch 20
is $? 0 "watch ends with the job"

# ---- what it wrote

lines=$(grep -c '^in_progress: ' "$work/watch.log")
[ "$lines" -ge 5 ]; is $? 0 "a line now and then in a pipe ($lines of them)"
is "$(tr -d '\n' <"$work/watch.log" | tr -d '[:print:]' | wc -c)" 0 "plain ones: no bar, nothing is drawn over"
like "$(grep '^in_progress: ' "$work/watch.log" | tail -n 1)" \
    '^in_progress: [0-9]+%, [0-9,]+ of 1,200 requests, [0-9,]+ tokens/s, [0-9]+% of [12] devices?, 0\.[0-9]+ USD$' \
    "with requests, tokens a second, its share of the devices, and its cost so far"
numbers() { sed -n "s/^in_progress: $1.*/\\1/p" "$work/watch.log" | tr -d ','; }
is "$(numbers '[0-9]*%, \([0-9,]*\) of' | sort -nc 2>&1)" "" "which never go back"
is "$(numbers '.*, \(0\.[0-9]*\) USD' | sort -gc 2>&1)" "" "nor does the cost"
like "$(tail -n 1 "$work/watch.log")" "^$job completed: 1,200 completed, 0 failed, [0-9,]+ tokens in, [0-9,]+ out, [0-9.]+ s of device time, [0-9.]+ USD$" \
    "the last line is how it ended"
is "$(tail -n 1 "$work/watch.log" | sed 's/.*, \([0-9.]*\) USD/\1/')" \
    "$(sql "select trim_scale(charged_money) from mserve.job_cost")" "and what it cost"

# ---- workers with two prices: the rows alone know

sed -i 's/price_per_gpu_hour: 3.6/price_per_gpu_hour: 7.2/' "$MSERVE_CONFIG"
worker dear
ok "a worker of another price comes" wait_until 20 sql_is 1 "select count(*) from mserve.workers where price_per_hour = 7.2 and closed_at is null"
second=$(mserve-submit --new --tier sim "$work/input.jsonl" 2>/dev/null | cut -d' ' -f1)

is "$(mserve watch "$second" | tail -n 1 | sed 's/.*, \([0-9.]* USD\)$/\1/')" \
    "$(sql "select trim_scale(charged_money) || ' USD' from mserve.job_cost order by job desc limit 1")" \
    "the cost is right with two prices"
isnt "$(sql "select count(distinct w.price_per_hour) from mserve.results r join mserve.workers w using (worker) where r.job <> '$id'")" 0 "both worked"
ok "the books add up" ledger_is_balanced
done_testing
