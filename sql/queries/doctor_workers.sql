-- producer/doctor_work.c: $1 topic. Workers of it that are not buried: those that live, those of them
-- that drain, those whose lease ran out and for how many seconds, and how many models they have.
select count(*) filter (where lease_until > clock_timestamp()),
  count(*) filter (where lease_until > clock_timestamp() and draining),
  count(*) filter (where lease_until <= clock_timestamp()),
  coalesce(max(extract(epoch from clock_timestamp() - lease_until))::bigint, 0),
  count(distinct model_digest) filter (where lease_until > clock_timestamp()),
  string_agg(name, ', ' order by name) filter (where lease_until <= clock_timestamp())
from mserve.workers where closed_at is null and device <> 'none' and $1 = any(topics);
