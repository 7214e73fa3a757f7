-- lease.c, lease_share: $1 worker, $2 topic. Partitions of the topic, live workers that claim it,
-- and the place of this one among them (null when it is not).
select (select count(*) from mserve.partitions where topic = $2),
  count(*), (array_position(array_agg(worker order by worker), $1) - 1)::bigint
from mserve.workers
where closed_at is null and lease_until > clock_timestamp() and not draining and device <> 'none'
  and $2 = any(topics);
