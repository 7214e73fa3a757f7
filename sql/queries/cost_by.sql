-- producer/commands/command_cost_by.c: $1 tenant, model, capacity or tag, $2 the tag's key or null, $3 first
-- day of the month: a row for each name and currency, the last of each currency its total, name null,
-- from the ledger alone. Cents are cut so that those of the names add up to those of the total.
with lines as (
  select coalesce(case $1::text when 'model' then p.model when 'capacity' then p.capacity
        when 'tenant' then j.tenant when 'tag' then j.metadata ->> $2::text end,
      case when $1 in ('model', 'capacity') then 'none' when b.job is null then '(no job)'
        else '(none)' end) as name,
    p.currency, sum(b.requests) as requests, sum(b.rows_ns) as rows_ns,
    sum(b.shared_ns) as shared_ns, sum(b.recompute_ns) as recompute_ns, sum(b.lost_ns) as lost_ns,
    sum(b.overhead_ns) as overhead_ns, sum(b.idle_ns) as idle_ns, sum(b.open_ns) as open_ns,
    sum((b.rows_ns + b.shared_ns + b.recompute_ns + b.lost_ns + b.overhead_ns + b.idle_ns
      + b.open_ns) * p.price_per_ns) as money,
    sum((b.rows_ns + b.shared_ns + b.recompute_ns + b.lost_ns + b.overhead_ns + b.idle_ns
      + b.open_ns) * p.on_demand_per_ns) as on_demand,
    sum((b.recompute_ns + b.lost_ns) * p.price_per_ns) as preemption
  from mserve.bill b join mserve.bill_prices p on p.worker = b.worker
    left join mserve.jobs j on j.job = b.job
  where b.month = $3::date
  group by 1, 2),
cut as (
  select *, sum(money) over so_far as money_so_far, sum(on_demand) over so_far as on_demand_so_far,
    sum(preemption) over so_far as preemption_so_far
  from lines window so_far as (partition by currency order by name
    rows between unbounded preceding and current row)),
bill as (
  select 1 as place, name, currency, requests, rows_ns, shared_ns, recompute_ns, lost_ns,
    overhead_ns, idle_ns, open_ns,
    round(money_so_far, 2) - round(money_so_far - money, 2) as money,
    round(on_demand_so_far, 2) - round(on_demand_so_far - on_demand, 2) as on_demand,
    round(preemption_so_far, 2) - round(preemption_so_far - preemption, 2) as preemption
  from cut
  union all
  select 2, null, p.currency, (select count(*) from mserve.results r join mserve.bill_prices q
        on q.worker = r.worker and q.currency = p.currency
      where date_trunc('month', r.finished_at at time zone 'UTC') = $3::date)
      + (select coalesce(sum(u.requests), 0) from mserve.purged_costs u join mserve.bill_prices q
        on q.worker = u.worker and q.currency = p.currency where u.month = $3::date and u.why is null),
    sum(l.rows_ns), sum(l.shared_ns), sum(l.recompute_ns), sum(l.lost_ns), sum(l.overhead_ns),
    sum(l.idle_ns), sum(l.wip_ns + l.handed_over_ns - l.taken_over_ns),
    round(sum(l.held_ns * p.price_per_ns), 2), round(sum(l.held_ns * p.on_demand_per_ns), 2),
    round(sum((l.recompute_ns + l.lost_ns) * p.price_per_ns), 2)
  from mserve.worker_ledger l join mserve.bill_prices p on p.worker = l.worker
  where date_trunc('month', l.at at time zone 'UTC') = $3::date
  group by p.currency),
shown as (
  select place, name, currency, requests::bigint, rows_ns::bigint, shared_ns::bigint,
    recompute_ns::bigint, lost_ns::bigint, overhead_ns::bigint, idle_ns::bigint, open_ns::bigint,
    (rows_ns + shared_ns + recompute_ns + lost_ns + overhead_ns + idle_ns + open_ns)::bigint as held_ns,
    money, on_demand as on_demand_money, on_demand - money as saved_money,
    preemption as preemption_money
  from bill)
select name, currency, requests, held_ns, rows_ns, shared_ns, recompute_ns, lost_ns, overhead_ns,
    idle_ns, open_ns, money::text, on_demand_money::text, saved_money::text, preemption_money::text,
    (select row_to_json(t) from (select s.name, s.currency, s.requests, s.held_ns, s.rows_ns,
        s.shared_ns, s.recompute_ns, s.lost_ns, s.overhead_ns, s.idle_ns, s.open_ns, s.money,
        s.on_demand_money, s.saved_money, s.preemption_money) t) as whole
  from shown s order by currency, place, name;
