-- 0002_protocol.sql: the protocols of docs/architecture.md as functions on the server, so that a
-- client that stops in the middle holds no lock and leaves nothing half done.
--
-- Conditions that a client is to act on are raised with SQLSTATE class MS:
--   MS001  the gate: this worker is not open at the number before. Detail: what its row says,
--          `landed`, `again`, `closed` or `history`.
--   MS002  the fence: partitions are not its own. Detail: their places in the arrays, from 0.
--   MS003  the batch contradicts the index or itself: a mistake of the program.
-- Locks are taken in the order worker, partitions, chunks, rows, each sorted by key.

-- ---------------------------------------------------------------------------------- submitting ----

-- Finds the job of a tenant's key or makes it. An explicit key with other content is a unique
-- violation; the second statement sees a row that another session inserted meanwhile.
create function mserve.job_open(
  p_key text, p_content bytea, p_input_name text, p_endpoint text, p_tier text, p_model text,
  p_topic text, p_partitions integer, p_chunk_lines_max integer, p_chunk_bytes_max integer,
  p_window text, p_window_ms bigint, p_metadata json, p_priority integer,
  out job uuid, out made boolean)
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_job uuid := mserve.uuid7();
  v_content bytea;
begin
  insert into mserve.jobs (job, idempotency_key, content_sha256, input_name, endpoint, tier, model,
      topic, partitions, partition_first, chunk_lines_max, chunk_bytes_max, completion_window,
      metadata, priority, created_at, heard_at, expires_at)
    values (v_job, p_key, p_content, p_input_name, p_endpoint, p_tier, p_model,
      p_topic, p_partitions, ('x' || right(v_job::text, 7))::bit(28)::integer % p_partitions,
      p_chunk_lines_max, p_chunk_bytes_max, p_window,
      p_metadata, p_priority, v_now, v_now, v_now + p_window_ms * interval '1 ms')
    on conflict (tenant, idempotency_key) do nothing;
  made := found;
  if made then
    insert into mserve.audit_log (action, job) values ('submit', v_job);
  end if;
  select j.job, j.content_sha256 into job, v_content from mserve.jobs j
    where j.tenant = mserve.current_tenant() and j.idempotency_key = p_key;
  if v_content is distinct from p_content then
    raise unique_violation using message = 'the idempotency key belongs to other content';
  end if;
end $$;
comment on function mserve.job_open is 'Finds the job of a tenant''s key, or makes it.';

-- FOR SHARE: two submitters of one file go side by side, a seal or a cancel waits for both. A chunk
-- that is there stays, unless its messages were found missing. False: sealed or ended, stop.
create function mserve.job_add_chunks(
  p_job uuid, p_chunks integer[], p_first_lines bigint[], p_lines integer[], p_parts integer[],
  p_first_offsets bigint[], p_last_offsets bigint[], p_bytes bigint[], p_sha256 bytea[],
  p_custom_ids bytea[], p_work bigint[])
returns boolean language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j where j.job = p_job for share;
  if not found or v_job.state not in ('validating', 'in_progress', 'cancelling') then
    return false;
  end if;
  if exists (select from unnest(p_chunks, p_parts) u (chunk, part)
             where u.part <> (v_job.partition_first + u.chunk) % v_job.partitions) then
    raise exception 'a chunk was sent to another partition than its own' using errcode = 'MS003';
  end if;
  update mserve.chunks c
    set first_offset = u.first_offset, last_offset = u.last_offset, missing = false
    from unnest(p_chunks, p_first_offsets, p_last_offsets) u (chunk, first_offset, last_offset)
    where c.job = p_job and c.chunk = u.chunk and c.missing;
  if v_job.state <> 'validating' then
    return false;
  end if;
  insert into mserve.chunks (job, chunk, first_line, lines, topic, part, first_offset, last_offset,
      bytes, sha256, custom_ids, work, done_map)
    select p_job, u.chunk, u.first_line, u.lines, v_job.topic, u.part, u.first_offset,
      u.last_offset, u.bytes, u.sha256, u.custom_ids, u.work, repeat('0', u.lines)::bit varying
    from unnest(p_chunks, p_first_lines, p_lines, p_parts, p_first_offsets, p_last_offsets,
                p_bytes, p_sha256, p_custom_ids, p_work)
      u (chunk, first_line, lines, part, first_offset, last_offset, bytes, sha256, custom_ids, work)
    order by u.chunk
    on conflict (job, chunk) do nothing;
  return true;
end $$;
comment on function mserve.job_add_chunks is 'Adds confirmed chunks to the index of the log.';

-- A job is accepted when its chunks are counted, here and not in the client: a chunk row that a
-- failover lost is found missing now, not when its lines never get a result.
create function mserve.job_seal(p_job uuid, p_chunks integer, p_lines bigint, p_lines_blank bigint)
returns text language plpgsql as $$
declare
  v_job mserve.jobs;
  v_whole boolean;
begin
  select * into v_job from mserve.jobs j where j.job = p_job for update;
  if not found or (v_job.lines is null and v_job.state <> 'validating') then
    return 'ended';
  elsif v_job.lines is not null then
    return case when v_job.lines = p_lines then 'sealed' else 'ended' end;
  end if;
  select count(*) = p_chunks and coalesce(sum(c.lines), 0) = p_lines
      and coalesce(bool_and(c.fits and not c.missing), true)
    into v_whole
    from (select chunk, lines, missing,
            first_line = coalesce(sum(lines) over earlier, 0)
              and chunk = row_number() over (order by chunk) - 1 as fits
          from mserve.chunks where job = p_job
          window earlier as (order by chunk rows between unbounded preceding and 1 preceding)) c;
  if not v_whole then
    return 'incomplete';
  end if;
  update mserve.jobs set lines = p_lines, lines_blank = p_lines_blank, state = 'in_progress',
      in_progress_at = clock_timestamp() where job = p_job;
  insert into mserve.audit_log (action, job) values ('seal', p_job);
  if p_lines = 0 then
    insert into mserve.job_deltas (job) values (p_job);
  end if;
  return 'sealed';
end $$;
comment on function mserve.job_seal is 'Accepts a job when its chunks are all there: sealed, incomplete or ended.';

-- Ends a job that is not sealed: it leaves no rows.
create function mserve.job_end_unsealed(p_job uuid, p_state text, p_code text, p_message text)
returns void language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  delete from mserve.chunks where job = p_job;
  update mserve.jobs set state = p_state, error_code = p_code, error_message = p_message,
      cancelling_at = case when p_state = 'cancelled' then v_now end,
      cancelled_at = case when p_state = 'cancelled' then v_now end,
      failed_at = case when p_state = 'failed' then v_now end
    where job = p_job;
end $$;
comment on function mserve.job_end_unsealed is 'Ends a job that was never accepted; the caller holds its row.';

-- What was asked of a sealed job is a wish: the holders of its partitions write the rows.
create function mserve.job_cancel(p_job uuid) returns text language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j where j.job = p_job for update;
  if not found then
    return null;
  elsif v_job.state = 'validating' then
    perform mserve.job_end_unsealed(p_job, 'cancelled', null, null);
  elsif v_job.state = 'in_progress' and v_job.wish is null then
    update mserve.jobs set state = 'cancelling', wish = 'cancel', cancelling_at = clock_timestamp()
      where job = p_job;
    insert into mserve.job_deltas (job) values (p_job);
  else
    return v_job.state;
  end if;
  insert into mserve.audit_log (action, job) values ('cancel', p_job);
  return (select state from mserve.jobs where job = p_job);
end $$;
comment on function mserve.job_cancel is 'Asks for the end of a job; returns its state, null when there is none.';

create function mserve.tier_register(p_tier text, p_topic text, p_partitions integer, p_names text[])
returns integer language plpgsql as $$
declare
  v_partitions integer;
begin
  insert into mserve.partitions (topic, part)
    select p_topic, n from generate_series(0, p_partitions - 1) n
    on conflict (topic, part) do nothing;
  select count(*) into v_partitions from mserve.partitions where topic = p_topic;
  delete from mserve.models where tier = p_tier and not served_name = any(p_names);
  insert into mserve.models (served_name, tier, topic, partitions)
    select n, p_tier, p_topic, v_partitions from unnest(p_names) n
    on conflict (served_name, tier) do update
      set topic = excluded.topic, partitions = excluded.partitions;
  return v_partitions;
end $$;
comment on function mserve.tier_register is 'Makes a tier, its names and its partitions known; returns how many partitions there are.';

-- ------------------------------------------------------------------------------ leases, claims ----

create function mserve.random_token() returns bigint language sql volatile as $$
  select ('x' || encode(substring(uuid_send(gen_random_uuid()) from 9 for 8), 'hex'))::bit(64)::bigint
    # ('x' || encode(substring(uuid_send(gen_random_uuid()) from 1 for 8), 'hex'))::bit(64)::bigint
$$;
comment on function mserve.random_token is '64 random bits.';

-- Only what has no owner: a partition changes hands through the burial of its owner or a release.
-- The claimer's own row is locked, so that it cannot be buried between this and that.
create function mserve.claim_partitions(
  p_worker uuid, p_token bigint, p_topic text, p_part integer, p_wanted integer)
returns table (part integer, epoch bigint, token bigint) language plpgsql as $$
#variable_conflict use_column
begin
  perform from mserve.workers w
    where w.worker = p_worker and w.token = p_token and w.closed_at is null for no key update;
  if not found then
    raise exception 'the worker is not open' using errcode = 'MS001', detail = 'closed';
  end if;
  return query
    with free as (
      select p.part from mserve.partitions p
        where p.topic = p_topic and p.owner is null and (p_part is null or p.part = p_part)
        order by p.part limit p_wanted for update skip locked)
    update mserve.partitions p
      set epoch = p.epoch + 1, token = mserve.random_token(), owner = p_worker
      from free where p.topic = p_topic and p.part = free.part
      returning p.part, p.epoch, p.token;
end $$;
comment on function mserve.claim_partitions is 'Claims up to so many partitions without an owner.';

create function mserve.release_partitions(p_worker uuid, p_token bigint, p_topic text, p_parts integer[])
returns void language plpgsql as $$
begin
  perform from mserve.workers w
    where w.worker = p_worker and w.token = p_token and w.closed_at is null for no key update;
  if not found then
    raise exception 'the worker is not open' using errcode = 'MS001', detail = 'closed';
  end if;
  perform from mserve.partitions p
    where p.topic = p_topic and p.part = any(p_parts) and p.owner = p_worker
    order by p.part for update;
  update mserve.partitions p set owner = null
    where p.topic = p_topic and p.part = any(p_parts) and p.owner = p_worker;
end $$;
comment on function mserve.release_partitions is 'Frees partitions that the worker holds.';

-- Closes the books of a worker that is gone (p_token null: only when its lease ran out) or that
-- leaves (its own token). It waits for a commit in flight, which holds the worker's row.
create function mserve.bury_worker(p_worker uuid, p_token bigint, p_held bigint, p_why text)
returns boolean language plpgsql as $$
declare
  v_worker mserve.workers;
  v_held bigint;
begin
  select * into v_worker from mserve.workers w
    where w.worker = p_worker and w.closed_at is null
      and (w.token = p_token or (p_token is null and w.lease_until < clock_timestamp()))
    for update;
  if not found then
    return false;
  end if;
  v_held := greatest(v_worker.reported_ns, p_held);
  perform from mserve.partitions p where p.owner = p_worker order by p.topic, p.part for update;
  update mserve.partitions p set owner = null where p.owner = p_worker;
  if v_held > v_worker.booked_ns or v_worker.wip_ns > 0 then
    v_worker.ledger_seq := v_worker.ledger_seq + 1;
    insert into mserve.worker_ledger (worker, seq, held_ns, rows_ns, wip_ns, shared_ns, recompute_ns,
        overhead_ns, idle_ns, lost_ns, estimated)
      values (p_worker, v_worker.ledger_seq, v_held - v_worker.booked_ns, 0, -v_worker.wip_ns, 0, 0,
        0, 0, v_held - v_worker.booked_ns + v_worker.wip_ns, p_token is null);
    insert into mserve.job_deltas (job, lost_ns)
      select w.key::uuid, w.value::bigint from json_each_text(v_worker.wip_jobs) w;
  end if;
  update mserve.workers set closed_at = clock_timestamp(), closed_why = p_why,
      ledger_seq = v_worker.ledger_seq, booked_ns = v_held, reported_ns = v_held, wip_ns = 0,
      wip_jobs = null
    where worker = p_worker;
  return true;
end $$;
comment on function mserve.bury_worker is 'Closes a worker: what it had in progress is lost, its partitions are free. False: there was nothing to bury.';

-- ---------------------------------------------------------------------------------- the commit ----

-- The caller has put the rows into pg_temp.staging in this transaction, and sends COMMIT in the same
-- message as this call. A batch that is sent again finds the gate shut by its own landing.
create function mserve.commit_batch(
  p_worker uuid, p_token bigint, p_seq bigint, p_lease_ms bigint, p_rows bigint,
  p_topics text[], p_parts integer[], p_epochs bigint[], p_tokens bigint[],
  p_chunk_jobs uuid[], p_chunks integer[], p_chunk_places integer[], p_chunk_maps bit varying[],
  p_attempt_jobs uuid[], p_attempt_lines bigint[], p_attempt_ns bigint[], p_attempt_whys text[],
  p_jobs uuid[], p_job_shared bigint[], p_job_recompute bigint[], p_job_lost bigint[],
  p_held bigint, p_wip bigint, p_wip_jobs json, p_shared bigint, p_recompute bigint,
  p_overhead bigint, p_idle bigint, p_lost bigint,
  out inserted bigint, out duplicates bigint)
language plpgsql as $$
declare
  v_wip bigint;
  v_surplus bigint;
  v_rows_ns bigint;
  v_lost bigint := 0;
  v_text text;
begin
  -- Gate: one number, one commit.
  select w.wip_ns into v_wip from mserve.workers w
    where w.worker = p_worker and w.token = p_token and w.ledger_seq = p_seq - 1
      and w.closed_at is null
    for no key update;
  if not found then
    select case when w.closed_at is not null then 'closed' when w.ledger_seq = p_seq then 'landed'
        when w.ledger_seq = p_seq - 1 then 'again' else 'history' end
      into v_text from mserve.workers w where w.worker = p_worker and w.token = p_token
      for no key update;
    raise exception 'the gate is shut' using errcode = 'MS001', detail = coalesce(v_text, 'history');
  end if;

  -- Fence: every partition with a row in this batch is still the worker's.
  perform from mserve.partitions p join unnest(p_topics, p_parts) u (topic, part)
      on p.topic = u.topic and p.part = u.part
    order by p.topic, p.part for update of p;
  select string_agg((u.place - 1)::text, ',' order by u.place) into v_text
    from unnest(p_topics, p_parts, p_epochs, p_tokens) with ordinality u (topic, part, epoch, token, place)
    left join mserve.partitions p on p.topic = u.topic and p.part = u.part
    where (p.epoch = u.epoch and p.token = u.token and p.owner = p_worker) is not true;
  if v_text is not null then
    raise exception 'partitions are not its own' using errcode = 'MS002', detail = v_text;
  end if;

  -- Chunks: locked in order, and each lies in a partition of the fence.
  perform from mserve.chunks c join unnest(p_chunk_jobs, p_chunks) u (job, chunk)
      on c.job = u.job and c.chunk = u.chunk
    order by c.job, c.chunk for update of c;
  update mserve.chunks c
    set done_map = c.done_map | u.map, done_count = bit_count(c.done_map | u.map)
    from unnest(p_chunk_jobs, p_chunks, p_chunk_places, p_chunk_maps) u (job, chunk, place, map)
    where c.job = u.job and c.chunk = u.chunk
      and c.topic = p_topics[u.place] and c.part = p_parts[u.place];
  get diagnostics inserted = row_count;
  if inserted <> cardinality(p_chunks) then
    raise exception 'a chunk is not there, or not in its partition' using errcode = 'MS003';
  end if;

  -- Rows, and what they add to each job, from the rows really inserted.
  with done as (
    insert into mserve.results (job, line, custom_id, status, status_code, response, error,
        input_tokens, cached_tokens, output_tokens, gpu_ns, attempt, worker)
      select s.job, s.line, s.custom_id, s.status, s.status_code, s.response, s.error,
        s.input_tokens, s.cached_tokens, s.output_tokens, s.gpu_ns, s.attempt, p_worker
      from pg_temp.staging s order by s.job, s.line
      on conflict (job, line) do nothing
      returning job, status, input_tokens, cached_tokens, output_tokens, gpu_ns),
  sums as (
    select job, count(*) as n, count(*) filter (where status = 'completed') as completed,
        count(*) filter (where status = 'failed') as failed,
        count(*) filter (where status = 'cancelled') as cancelled,
        count(*) filter (where status = 'expired') as expired,
        sum(input_tokens) as input_tokens, sum(cached_tokens) as cached_tokens,
        sum(output_tokens) as output_tokens, sum(gpu_ns)::bigint as rows_ns,
        0 as shared_ns, 0 as recompute_ns, 0 as lost_ns
      from done group by job
    union all
    select u.job, 0, 0, 0, 0, 0, 0, 0, 0, 0, u.shared_ns, u.recompute_ns, u.lost_ns
      from unnest(p_jobs, p_job_shared, p_job_recompute, p_job_lost)
        u (job, shared_ns, recompute_ns, lost_ns)
      where u.shared_ns > 0 or u.recompute_ns > 0 or u.lost_ns > 0
    union all
    select u.job, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, u.lost_ns
      from unnest(p_attempt_jobs, p_attempt_ns) u (job, lost_ns)),
  deltas as (
    insert into mserve.job_deltas (job, completed, failed, cancelled, expired, input_tokens,
        cached_tokens, output_tokens, rows_ns, shared_ns, recompute_ns, lost_ns)
      select job, sum(completed), sum(failed), sum(cancelled), sum(expired), sum(input_tokens),
        sum(cached_tokens), sum(output_tokens), sum(rows_ns), sum(shared_ns), sum(recompute_ns),
        sum(lost_ns)
      from sums group by job order by job)
  select coalesce(sum(n), 0), coalesce(sum(rows_ns), 0) into inserted, v_rows_ns from sums;
  duplicates := p_rows - inserted;

  -- Attempts: what no row took. A row of this transaction's own is not a duplicate.
  if duplicates > 0 then
    with again as (
      insert into mserve.attempts (worker, seq, job, line, gpu_ns, why)
        select p_worker, p_seq, s.job, s.line, s.gpu_ns, 'duplicate' from pg_temp.staging s
          where not exists (select from mserve.results r where r.job = s.job and r.line = s.line
            and r.xmin = pg_current_xact_id()::xid)
        returning job, gpu_ns),
    deltas as (
      insert into mserve.job_deltas (job, lost_ns)
        select job, sum(gpu_ns) from again group by job order by job)
    select count(*) - duplicates, coalesce(sum(gpu_ns), 0) into v_surplus, v_lost from again;
    if v_surplus <> 0 then
      raise exception 'the batch has a line twice' using errcode = 'MS003';
    end if;
  end if;
  if cardinality(p_attempt_jobs) > 0 then
    insert into mserve.attempts (worker, seq, job, line, gpu_ns, why)
      select p_worker, p_seq, u.job, u.line, u.gpu_ns, u.why
      from unnest(p_attempt_jobs, p_attempt_lines, p_attempt_ns, p_attempt_whys)
        u (job, line, gpu_ns, why);
    v_lost := v_lost + (select sum(n) from unnest(p_attempt_ns) n);
  end if;

  -- Books.
  insert into mserve.worker_ledger (worker, seq, held_ns, rows_ns, wip_ns, shared_ns, recompute_ns,
      overhead_ns, idle_ns, lost_ns)
    values (p_worker, p_seq, p_held, v_rows_ns, p_wip - v_wip, p_shared, p_recompute, p_overhead,
      p_idle, p_lost + v_lost);
  update mserve.workers w
    set ledger_seq = p_seq, lease_until = greatest(w.lease_until,
        clock_timestamp() + p_lease_ms * interval '1 ms'),
      booked_ns = w.booked_ns + p_held, reported_ns = greatest(w.reported_ns, w.booked_ns + p_held),
      wip_ns = p_wip, wip_jobs = p_wip_jobs
    where w.worker = p_worker;
end $$;
comment on function mserve.commit_batch is 'Gate, fence, rows, bitmaps, attempts and books of one commit; raises when gate or fence is shut.';
