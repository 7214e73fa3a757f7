-- retry.c, retry_find: $1 the key of a retry. The newest job of it and its followers: each was made when
-- the one before had ended before it was accepted.
select j.job, j.idempotency_key, j.lines is not null, j.state, j.tier, j.completion_window, j.priority
from mserve.jobs j
where j.tenant = mserve.current_tenant()
  and (j.idempotency_key = $1 or j.idempotency_key like $1 || '/%')
order by j.job desc limit 1;
