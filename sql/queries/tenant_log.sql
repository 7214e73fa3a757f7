-- producer/tenant_erase.c: $1 tenant, $2 the topic of dead letters: the topics that hold messages of it,
-- and no later than when its newest came there: an upload ends with the seal of its job, or with its end
-- where it was never sealed, and what the log had lost was sent again when the log of deeds says so.
select topic, max(at) from (
    select topic, greatest(created_at, heard_at, in_progress_at,
        case when lines is null then coalesce(cancelled_at, failed_at, clock_timestamp()) end) as at
      from mserve.jobs where tenant = $1
    union all
    select j.topic, a.at from mserve.jobs j join mserve.audit_log a on a.job = j.job
      where j.tenant = $1 and a.action = 'heal'
    union all
    select $2, at from mserve.dead_letters where tenant = $1) messages
  group by topic order by topic;
