-- producer/doctor/doctor_work.c: schedulers that are connected; progress that waits, counted up to 100,000;
-- jobs that should have ended: their window passed a minute ago, or all their rows are there and
-- nothing waits to be folded; uploads that fell silent an hour ago.
select (select count(*) from pg_stat_activity
    where application_name = 'mserve-scheduler' and datname = current_database()),
  (select count(*) from (select from mserve.job_deltas limit 100000) d),
  (select count(*) from mserve.jobs
    where state in ('validating', 'in_progress') and wish is null
      and expires_at < clock_timestamp() - interval '1 minute'),
  (select count(*) from mserve.jobs j
    where j.state in ('in_progress', 'cancelling')
      and j.lines = (select coalesce(sum(c.done_count), 0) from mserve.chunks c where c.job = j.job)
      and not exists (select from mserve.job_deltas d where d.job = j.job)),
  (select count(*) from mserve.jobs
    where state = 'validating' and heard_at < clock_timestamp() - interval '1 hour');
