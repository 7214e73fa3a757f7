-- purge.c, purge_jobs: $1 before when they must have ended, microseconds since 1970, $2 behind which job,
-- $3 how many. Of each there is something left; one that was purged halfway has its chunks.
select j.job from mserve.jobs j
where mserve.job_ended_before(j, 'epoch'::timestamptz + $1::bigint * interval '1 microsecond') and j.job > $2
  and (j.purged_at is null or exists (select from mserve.chunks c where c.job = j.job)
    or exists (select from mserve.webhook_events e where e.job = j.job and not exists (
      select from mserve.webhook_deliveries d where d.event = e.event and d.state = 'pending')))
order by j.job limit $3;
