-- producer/doctor/doctor_work.c: $1 topic. Workers of it that left within a day because of their device: how
-- many, and who, where and why, the last first.
select count(*),
  string_agg(name || ' on ' || host || ': ' || drain_why, '; ' order by registered_at desc)
from mserve.workers
where $1 = any(topics) and (drain_why like 'sick%' or drain_why = 'failed')
  and coalesce(closed_at, clock_timestamp()) > clock_timestamp() - interval '1 day';
