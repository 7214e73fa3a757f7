-- producer/doctor/doctor_work.c: $1 topic, $2 how many ms a worker may stay past the time that it was given.
-- Workers of it that are not buried: those that live, those of them that drain, those whose lease ran
-- out and for how many seconds, how many models they have, who they are; then those that should have
-- left, for how many seconds, and who they are.
with here as (
  select w.*, lease_until > clock_timestamp() as lives,
      clock_timestamp() - least(drain_by, leave_by) as late
    from mserve.workers w where closed_at is null and device <> 'none' and $1 = any(topics)),
judged as (select h.*, lives and late > $2::bigint * interval '1 ms' as overdue from here h)
select count(*) filter (where lives), count(*) filter (where lives and draining),
  count(*) filter (where not lives),
  coalesce(max(extract(epoch from clock_timestamp() - lease_until))::bigint, 0),
  count(distinct model_digest) filter (where lives),
  string_agg(name, ', ' order by name) filter (where not lives),
  count(*) filter (where overdue),
  coalesce(max(extract(epoch from late)) filter (where overdue), 0)::bigint,
  string_agg(name, ', ' order by name) filter (where overdue)
from judged;
