-- producer/submit.c: $1 the key of the first job of this content. The newest job of its family of which
-- the log has lost requests: the same file brings these back. No row: there is none.
select idempotency_key from mserve.jobs j
  where tenant = mserve.current_tenant()
    and (idempotency_key = $1 or idempotency_key like $1 || '/%')
    and state in ('validating', 'in_progress')
    and exists (select from mserve.chunks c where c.job = j.job and c.missing and not c.whole)
  order by job desc limit 1;
