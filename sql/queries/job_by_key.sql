-- producer/submit.c: $1 key: whether that job of the tenant still uploads. No row: there is none.
select state = 'validating' from mserve.jobs
  where tenant = mserve.current_tenant() and idempotency_key = $1;
