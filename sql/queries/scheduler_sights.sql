-- scheduler/scheduler.c, every few seconds, for the metrics: jobs that have not ended, by state, by
-- their partial indexes; progress that is not folded, counted up to 100,000, and its oldest row.
select (select count(*) from mserve.jobs where state = 'validating'),
  (select count(*) from mserve.jobs where state = 'in_progress'),
  (select count(*) from mserve.jobs where state = 'cancelling'),
  (select count(*) from (select from mserve.job_deltas limit 100000) d),
  (select min(id) from mserve.job_deltas);
