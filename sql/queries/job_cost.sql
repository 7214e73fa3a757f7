-- producer/commands/command_cost.c: $1 job: one row for each currency; what spot saved, and how attempts ended.
with attempts as (
  select json_agg(a order by a.lost_ns desc, a.why) as told from (
    select why, attempts, estimated, tokens_kept, tokens_lost, kept_ns, lost_ns, recompute_ns, currency,
      money from mserve.job_attempts where job = $1) a)
select c.state, c.tier, coalesce(c.currency, ''), c.rows_ns::bigint, c.shared_ns::bigint,
    c.recompute_ns::bigint, c.lost_ns::bigint, c.rows_money::text, c.shared_money::text,
    c.charged_money::text, c.uncharged_money::text, b.on_demand_money::text, b.saved_money::text,
    (select row_to_json(t) from (select c.*, b.on_demand_money, b.preemption_money, b.saved_money,
      coalesce(a.told, '[]') as attempts) t)
  from mserve.job_cost c left join mserve.job_bill b on b.job = c.job and b.currency = c.currency,
    attempts a
  where c.job = $1 order by c.currency;
