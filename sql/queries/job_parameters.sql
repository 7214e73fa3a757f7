-- producer/submit_same.c: $1 job, $2 metadata: what the job was made with, and whether its metadata
-- are the same, in whatever order.
select tier, endpoint, model, completion_window,
  (extract(epoch from expires_at - created_at) * 1000)::bigint, priority,
  metadata::jsonb is not distinct from $2::jsonb
from mserve.jobs where job = $1;
