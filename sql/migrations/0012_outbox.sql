-- 0012_outbox.sql: how events come about: with the fold that ends a job, in its transaction.

-- The same event has the same id, whoever writes it and however often.
create function mserve.event_id(p_job uuid, p_type text, p_seq bigint) returns uuid
language sql immutable as $$
  select md5(p_job::text || ' ' || p_type || ' ' || p_seq)::uuid
$$;
comment on function mserve.event_id is 'The id of an event: made from what it tells of.';
