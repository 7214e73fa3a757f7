-- 0005_checks.sql: two checks that were missing.

-- A failover may take back the seal of a job, or the job itself, which a worker has read already.
-- Nothing of such a job is written, neither rows nor books: it may still be cancelled, and then it
-- leaves none. What is accepted stays so in one history, so nothing has to be locked.
create function mserve.check_accepted(p_jobs uuid[]) returns void language plpgsql as $$
begin
  if exists (select from unnest(p_jobs) u (job) left join mserve.jobs j on j.job = u.job
             where j.lines is null) then
    raise exception 'a job of the batch was never accepted'
      using errcode = 'MS001', detail = 'history';
  end if;
end $$;
comment on function mserve.check_accepted is 'Raises when one of these jobs is not there or not sealed: the database went back.';

-- A worker's rows cost what its ledger says: a commit that booked them from memory, and not from
-- what was inserted, shows.
create or replace view mserve.ledger_check as
with ledger as (
  select coalesce(sum(held_ns), 0) as held_ns, coalesce(sum(taken_over_ns), 0) as taken_over_ns,
      coalesce(sum(rows_ns), 0) as rows_ns, coalesce(sum(handed_over_ns), 0) as handed_over_ns,
      coalesce(sum(wip_ns), 0) as wip_ns, coalesce(sum(shared_ns), 0) as shared_ns,
      coalesce(sum(recompute_ns), 0) as recompute_ns, coalesce(sum(overhead_ns), 0) as overhead_ns,
      coalesce(sum(idle_ns), 0) as idle_ns, coalesce(sum(lost_ns), 0) as lost_ns
    from mserve.worker_ledger),
of_rows as (
  select job, count(*) as n, count(*) filter (where status = 'completed') as completed,
      count(*) filter (where status = 'failed') as failed,
      count(*) filter (where status = 'cancelled') as cancelled,
      count(*) filter (where status = 'expired') as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(gpu_ns) as gpu_ns
    from mserve.results group by job),
of_jobs as (
  select job, sum(completed) as completed, sum(failed) as failed, sum(cancelled) as cancelled,
      sum(expired) as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(rows_ns) as gpu_ns, sum(shared_ns) as shared_ns, sum(recompute_ns) as recompute_ns
    from (
      select job, completed, failed, cancelled, expired, input_tokens, cached_tokens, output_tokens,
          rows_ns, shared_ns, recompute_ns from mserve.jobs
      union all
      select job, completed, failed, cancelled, expired, input_tokens, cached_tokens, output_tokens,
          rows_ns, shared_ns, recompute_ns from mserve.job_deltas) both_of_them
    group by job),
differ as (
  select count(*) as jobs from of_jobs j full join of_rows r on r.job = j.job
    where (coalesce(j.completed, 0), coalesce(j.failed, 0), coalesce(j.cancelled, 0),
        coalesce(j.expired, 0), coalesce(j.input_tokens, 0), coalesce(j.cached_tokens, 0),
        coalesce(j.output_tokens, 0), coalesce(j.gpu_ns, 0))
      <> (coalesce(r.completed, 0), coalesce(r.failed, 0), coalesce(r.cancelled, 0),
        coalesce(r.expired, 0), coalesce(r.input_tokens, 0), coalesce(r.cached_tokens, 0),
        coalesce(r.output_tokens, 0), coalesce(r.gpu_ns, 0))),
bits as (
  select count(*) as jobs from (
    select c.job, sum(c.done_count) as n, sum(bit_count(c.done_map)) as bits
      from mserve.chunks c group by c.job) c full join of_rows r on r.job = c.job
    where coalesce(c.n, 0) <> coalesce(r.n, 0) or c.n <> c.bits),
workers as (
  select count(*) as n from mserve.workers w
    left join (select worker, sum(held_ns) as held_ns, sum(wip_ns) as wip_ns, max(seq) as seq,
                 sum(rows_ns) as rows_ns
               from mserve.worker_ledger group by worker) l on l.worker = w.worker
    left join (select worker, sum(gpu_ns) as gpu_ns
               from mserve.results group by worker) r on r.worker = w.worker
    where (w.booked_ns, w.wip_ns, w.ledger_seq, coalesce(r.gpu_ns, 0))
      <> (coalesce(l.held_ns, 0), coalesce(l.wip_ns, 0), coalesce(l.seq, 0),
        coalesce(l.rows_ns, 0)))
select l.held_ns, l.taken_over_ns, coalesce((select sum(gpu_ns) from of_rows), 0) as rows_ns,
  l.handed_over_ns, l.wip_ns, l.shared_ns, l.recompute_ns, l.overhead_ns, l.idle_ns, l.lost_ns,
  l.held_ns + l.taken_over_ns - coalesce((select sum(gpu_ns) from of_rows), 0) - l.handed_over_ns
    - l.wip_ns - l.shared_ns - l.recompute_ns - l.overhead_ns - l.idle_ns - l.lost_ns
    as unexplained_ns,
  l.shared_ns + l.recompute_ns
    - coalesce((select sum(shared_ns) + sum(recompute_ns) from of_jobs), 0) as jobs_unexplained_ns,
  d.jobs as jobs_differ, b.jobs as bitmaps_differ, w.n as workers_differ
from ledger l, differ d, bits b, workers w;
comment on column mserve.ledger_check.workers_differ is 'Workers whose row, or whose result rows, do not say what their ledger says.';
