-- 0009_bill.sql: where the money went: what each job bore of each worker's time, month by month, and
-- the rest, which no job bore; what spot saved, and what preemption cost.

-- Every nanosecond of the ledger once. What a job bears is dated by its rows and attempts, whose
-- workers say the price; prefixes that requests share are split over the jobs that have any. What is
-- left of each account stands in a row without a job: work in progress is there, and may be negative
-- in a month in which more was finished than begun.
create view mserve.bill as
with ledger as (
  select date_trunc('month', at at time zone 'UTC')::date as month, worker, sum(rows_ns) as rows_ns,
      sum(shared_ns) as shared_ns, sum(recompute_ns) as recompute_ns, sum(lost_ns) as lost_ns,
      sum(overhead_ns) as overhead_ns, sum(idle_ns) as idle_ns,
      sum(wip_ns + handed_over_ns - taken_over_ns) as open_ns
    from mserve.worker_ledger group by 1, 2),
of_jobs as (
  select month, worker, job, sum(requests) as requests, sum(rows_ns) as rows_ns,
      sum(recompute_ns) as recompute_ns, sum(lost_ns) as lost_ns
    from (
      select date_trunc('month', finished_at at time zone 'UTC')::date as month, worker, job,
          1 as requests, gpu_ns as rows_ns, recompute_ns, 0 as lost_ns
        from mserve.results where worker is not null
      union all
      select date_trunc('month', at at time zone 'UTC')::date, worker, job, 0, 0, recompute_ns, gpu_ns
        from mserve.attempts) both_of_them
    group by month, worker, job),
shares as (
  select o.*, coalesce(trunc(l.shared_ns * j.shared_ns
      / nullif(sum(j.shared_ns) over (partition by o.month, o.worker), 0)), 0) as shared_ns
    from of_jobs o left join ledger l on l.month = o.month and l.worker = o.worker
      left join mserve.jobs j on j.job = o.job),
borne as (
  select month, worker, sum(rows_ns) as rows_ns, sum(shared_ns) as shared_ns,
      sum(recompute_ns) as recompute_ns, sum(lost_ns) as lost_ns
    from shares group by month, worker)
select month, worker, job, requests, rows_ns, shared_ns, recompute_ns, lost_ns,
    0::numeric as overhead_ns, 0::numeric as idle_ns, 0::numeric as open_ns
  from shares
union all
select coalesce(l.month, b.month), coalesce(l.worker, b.worker), null, 0,
    coalesce(l.rows_ns, 0) - coalesce(b.rows_ns, 0),
    coalesce(l.shared_ns, 0) - coalesce(b.shared_ns, 0),
    coalesce(l.recompute_ns, 0) - coalesce(b.recompute_ns, 0),
    coalesce(l.lost_ns, 0) - coalesce(b.lost_ns, 0),
    coalesce(l.overhead_ns, 0), coalesce(l.idle_ns, 0), coalesce(l.open_ns, 0)
  from ledger l full join borne b on b.month = l.month and b.worker = l.worker;
comment on view mserve.bill is 'Device time by month, worker and job, and what no job bore (job is null). Over all rows it adds up to the time that the ledger says was held.';
comment on column mserve.bill.month is 'First day of the month, in UTC.';
comment on column mserve.bill.worker is 'Who held the device: price, currency, capacity and model stand there.';
comment on column mserve.bill.job is 'Who bears it; null: no job.';
comment on column mserve.bill.requests is 'Result rows that the worker wrote in that month.';
comment on column mserve.bill.rows_ns is 'On these rows.';
comment on column mserve.bill.shared_ns is 'Prefixes that requests share.';
comment on column mserve.bill.recompute_ns is 'Reading again after a loss.';
comment on column mserve.bill.lost_ns is 'Came to no row.';
comment on column mserve.bill.overhead_ns is 'Loading, padding, gaps.';
comment on column mserve.bill.idle_ns is 'Nothing to do.';
comment on column mserve.bill.open_ns is 'In unfinished requests and checkpoints, more at the end of the month than at its beginning.';

-- A worker that does not say what its device costs on demand saves nothing.
create view mserve.bill_prices as
select w.worker, w.currency, w.model, coalesce(w.capacity, 'not said') as capacity,
  w.price_per_hour / 3600000000000 as price_per_ns,
  coalesce(w.price_on_demand_per_hour, w.price_per_hour) / 3600000000000 as on_demand_per_ns
from mserve.workers w;
comment on view mserve.bill_prices is 'What a nanosecond of each worker costs, and would cost on demand.';
comment on column mserve.bill_prices.worker is 'Whose device.';
comment on column mserve.bill_prices.currency is 'Of both prices.';
comment on column mserve.bill_prices.model is 'The model that it had loaded.';
comment on column mserve.bill_prices.capacity is 'spot, on_demand, reserved, or not said.';
comment on column mserve.bill_prices.price_per_ns is 'Of its device.';
comment on column mserve.bill_prices.on_demand_per_ns is 'Of the same device on demand; where that is not said, as price_per_ns.';

-- On demand nothing is taken away, so nothing is lost or read again. Shared prefixes at the price of
-- the job's rows, as in job_cost.
create view mserve.job_bill as
with rows_of as (
  select r.job, p.currency, sum(r.gpu_ns) as ns, sum(r.gpu_ns * p.on_demand_per_ns) as on_demand
    from mserve.results r join mserve.bill_prices p on p.worker = r.worker
    group by r.job, p.currency),
again as (
  select u.job, p.currency, sum(u.ns) as ns, sum(u.ns * p.price_per_ns) as money
    from (select job, worker, recompute_ns as ns from mserve.results where recompute_ns > 0
      union all select job, worker, gpu_ns + recompute_ns from mserve.attempts) u
      join mserve.bill_prices p on p.worker = u.worker
    group by u.job, p.currency)
select c.job, c.currency, c.charged_money, round(coalesce(a.money, 0), 9) as preemption_money,
  round(r.on_demand * (r.ns + c.shared_ns) / r.ns, 9) as on_demand_money,
  round(r.on_demand * (r.ns + c.shared_ns) / r.ns, 9) - c.charged_money
    - round(coalesce(a.money, 0), 9) as saved_money,
  coalesce(a.ns, 0)::bigint as preemption_ns
from mserve.job_cost c join rows_of r on r.job = c.job and r.currency = c.currency and r.ns > 0
  left join again a on a.job = c.job and a.currency = c.currency;
comment on view mserve.job_bill is 'What a job would have cost on demand, undisturbed, and what it cost with all that was begun again.';
comment on column mserve.job_bill.job is 'Its id.';
comment on column mserve.job_bill.currency is 'Of the prices of its workers.';
comment on column mserve.job_bill.charged_money is 'Its rows, and prefixes that they share.';
comment on column mserve.job_bill.preemption_money is 'What was lost, and read again: at the price of the workers that did it.';
comment on column mserve.job_bill.on_demand_money is 'The same rows at the price on demand, where nothing is lost.';
comment on column mserve.job_bill.saved_money is 'on_demand_money less charged_money and preemption_money: negative where interruptions cost more than spot saved.';
comment on column mserve.job_bill.preemption_ns is 'Device time lost and read again.';

create view mserve.job_attempts as
select a.job, a.why, count(*) as attempts, count(*) filter (where a.estimated) as estimated,
  sum(a.tokens_kept) as tokens_kept, sum(a.tokens_lost) as tokens_lost,
  sum(a.kept_ns)::bigint as kept_ns, sum(a.gpu_ns)::bigint as lost_ns,
  sum(a.recompute_ns)::bigint as recompute_ns, p.currency,
  round(sum((a.gpu_ns + a.recompute_ns) * p.price_per_ns), 9) as money
from mserve.attempts a left join mserve.bill_prices p on p.worker = a.worker
group by a.job, a.why, p.currency;
comment on view mserve.job_attempts is 'How the attempts of a job ended that brought no row.';
comment on column mserve.job_attempts.job is 'Its id.';
comment on column mserve.job_attempts.why is 'preempted, crashed, vanished and so on: see attempts.why.';
comment on column mserve.job_attempts.attempts is 'How many.';
comment on column mserve.job_attempts.estimated is 'Of these, those told by a burial from what the worker last said.';
comment on column mserve.job_attempts.tokens_kept is 'Tokens that a checkpoint kept; null: not known.';
comment on column mserve.job_attempts.tokens_lost is 'Tokens that nothing kept; null: not known.';
comment on column mserve.job_attempts.kept_ns is 'Device time that went on in a checkpoint.';
comment on column mserve.job_attempts.lost_ns is 'Device time that came to nothing.';
comment on column mserve.job_attempts.recompute_ns is 'Device time that they spent on reading again.';
comment on column mserve.job_attempts.currency is 'Of money.';
comment on column mserve.job_attempts.money is 'Price of lost_ns and recompute_ns.';
