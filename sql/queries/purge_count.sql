-- purge.c, purge_count: $1 how many milliseconds ago jobs must have ended.
select count(j.job), coalesce(sum(j.completed + j.failed + j.cancelled + j.expired)
    filter (where j.purged_at is null), 0)::bigint,
  (extract(epoch from b.before) * 1000000)::bigint
from (select clock_timestamp() - $1 * interval '1 ms' as before) b
  left join mserve.jobs j on mserve.job_ended_before(j, b.before) and (j.purged_at is null or exists (select from mserve.chunks c where c.job = j.job)
      or exists (select from mserve.webhook_events e where e.job = j.job and not exists (
        select from mserve.webhook_deliveries d where d.event = e.event and d.state = 'pending')))
group by b.before;
