-- 0012_outbox.sql: how events come about: with the fold that ends a job, in its transaction.

-- The same event has the same id, whoever writes it and however often.
create function mserve.event_id(p_job uuid, p_type text, p_seq bigint) returns uuid
language sql immutable as $$
  select md5(p_job::text || ' ' || p_type || ' ' || p_seq)::uuid
$$;
comment on function mserve.event_id is 'The id of an event: made from what it tells of.';

-- ------------------------------------------------------------------------------------- tables ----

alter table mserve.webhook_events add column detail json;
comment on column mserve.webhook_events.detail is 'What the body tells beside the job: of a preemption who and why; of an event without a job all of its data.';

create index webhook_endpoints_every_job on mserve.webhook_endpoints (tenant) where every_job;

alter table mserve.jobs add column pages boolean not null default false;
comment on column mserve.jobs.pages is 'Somebody wants request.completed of it: its commits say which rows they wrote. Set when it is sealed, or when such an endpoint is added.';
create index jobs_paged on mserve.jobs (job) where pages and state in ('in_progress', 'cancelling');

alter table mserve.job_deltas add column lines bigint[];
comment on column mserve.job_deltas.lines is 'Rows that were written, where somebody wants to be told of them; else null.';

create table mserve.webhook_pages (
  job      uuid not null,
  lines    bigint[] not null,
  since    timestamptz not null default clock_timestamp(),
  next_seq bigint not null default 1,
  constraint webhook_pages_pkey primary key (job)
);
comment on table mserve.webhook_pages is 'Rows that were folded and that no event has told of yet, of jobs whose rows somebody wants to be told of.';
comment on column mserve.webhook_pages.job is 'Whose rows.';
comment on column mserve.webhook_pages.lines is 'Which.';
comment on column mserve.webhook_pages.since is 'Since when the first of them waits.';
comment on column mserve.webhook_pages.next_seq is 'Number of the job''s next page, from 1.';

-- ------------------------------------------------------------------------------ who is told what ----

create function mserve.webhook_wanted(p_tenant text, p_named uuid, p_type text) returns setof uuid
language sql stable as $$
  select e.endpoint from mserve.webhook_endpoints e
    where e.endpoint = p_named and e.tenant = p_tenant and e.state = 'enabled'
      and p_type = any(e.events)
  union all
  select e.endpoint from mserve.webhook_endpoints e
    where e.tenant = p_tenant and e.every_job and e.state = 'enabled' and p_type = any(e.events)
      and e.endpoint is distinct from p_named
$$;
comment on function mserve.webhook_wanted is 'Endpoints that want events of a type of the jobs of a tenant that name p_named (null: none).';

-- In the transaction that makes it so. Nobody wants it: nothing is written. What is there stays, as
-- another put it there with the same id. A page that a failover lost may come again with other rows:
-- its id is made from these too.
create function mserve.webhook_emit(p_job uuid, p_type text, p_seq bigint default 0,
  p_lines bigint[] default null, p_detail json default null)
returns boolean language plpgsql as $$
declare
  v_tenant text;
  v_named uuid;
  v_to uuid[];
  v_event uuid := mserve.event_id(p_job,
    p_type || coalesce(' ' || array_to_string(p_lines, ' '), ''), p_seq);
begin
  select j.tenant, j.webhook into v_tenant, v_named from mserve.jobs j where j.job = p_job;
  v_to := array(select mserve.webhook_wanted(v_tenant, v_named, p_type));
  if cardinality(v_to) = 0 then
    return false;
  end if;
  insert into mserve.webhook_events (event, tenant, job, type, seq, lines, detail)
    values (v_event, v_tenant, p_job, p_type, p_seq, p_lines, p_detail)
    on conflict do nothing;
  if not found then
    return false;
  end if;
  insert into mserve.webhook_deliveries (endpoint, event)
    select e.endpoint, v_event from mserve.webhook_endpoints e where e.endpoint = any(v_to)
      order by e.endpoint for key share
    on conflict do nothing;
  perform pg_notify('mserve_webhooks', '');
  return true;
end $$;
comment on function mserve.webhook_emit is 'Writes an event of a job and what is owed of it; false: nobody wants it, or it is there.';

-- ------------------------------------------------------------------------------------- bodies ----

-- One row of a page. A name that would fill it is left out: the line says which request it is.
create function mserve.webhook_row(p_line bigint, p_custom_id text, p_status text, p_code smallint,
  p_input integer, p_output integer) returns text language sql immutable as $$
  select '{"line":' || p_line || ',"custom_id":'
    || case when octet_length(n.name) <= 4000 then n.name else 'null,"custom_id_omitted":true' end
    || ',"status":"' || p_status || '","status_code":' || coalesce(p_code::text, 'null')
    || ',"usage":{"input_tokens":' || p_input || ',"output_tokens":' || p_output || '}}'
  from (select to_json(p_custom_id)::text as name) n
$$;
comment on function mserve.webhook_row is 'A request in the body of request.completed.';

-- Cuts what waits into pages that fit a body: all of it, or as long as 100 rows or more are left.
create function mserve.webhook_page(p_job uuid, p_all boolean) returns void language plpgsql as $$
declare
  v_waits mserve.webhook_pages;
  v_page bigint[] := '{}';
  v_bytes bigint := 0;
  v_told bigint := 0;
  r record;
begin
  select * into v_waits from mserve.webhook_pages w where w.job = p_job for update;
  if not found or cardinality(v_waits.lines) = 0 then
    return;
  end if;
  for r in
    select u.line, octet_length(mserve.webhook_row(s.line, s.custom_id, s.status, s.status_code,
        s.input_tokens, s.output_tokens)) + 1 as bytes
      from unnest(v_waits.lines) with ordinality u (line, place)
        left join mserve.results s on s.job = p_job and s.line = u.line
      order by u.place
  loop
    if v_bytes + coalesce(r.bytes, 0) > 19500 then
      perform mserve.webhook_emit(p_job, 'request.completed', v_waits.next_seq, v_page);
      v_waits.next_seq := v_waits.next_seq + 1;
      v_told := v_told + cardinality(v_page);
      v_page := '{}';
      v_bytes := 0;
    end if;
    v_page := v_page || r.line;
    v_bytes := v_bytes + coalesce(r.bytes, 0);
  end loop;
  if p_all or cardinality(v_page) >= 100 then
    perform mserve.webhook_emit(p_job, 'request.completed', v_waits.next_seq, v_page);
    v_waits.next_seq := v_waits.next_seq + 1;
    v_told := v_told + cardinality(v_page);
  end if;
  update mserve.webhook_pages w set lines = v_waits.lines[v_told + 1:], next_seq = v_waits.next_seq,
      since = case when v_told > 0 then clock_timestamp() else w.since end
    where w.job = p_job;
end $$;
comment on function mserve.webhook_page is 'Writes events of the rows of a job that wait to be told of.';

create function mserve.webhook_batch(p_event mserve.webhook_events, p_metadata boolean) returns text
language sql stable as $$
  select left(json_build_object(
      'id', b.batch_id, 'object', 'batch', 'status', split_part(p_event.type, '.', 2),
      'endpoint', j.endpoint, 'model', left(j.model, 200), 'tier', j.tier,
      'request_counts', b.object->'request_counts', 'usage', b.object->'usage',
      'gpu_seconds', trim_scale((j.rows_ns + j.shared_ns) / 1e9),
      'gpu_seconds_details', json_build_object(
        'rows', trim_scale(j.rows_ns / 1e9), 'shared', trim_scale(j.shared_ns / 1e9),
        'recompute', trim_scale(j.recompute_ns / 1e9), 'lost', trim_scale(j.lost_ns / 1e9)),
      'cost', coalesce((select json_agg(json_build_object('currency', c.currency,
          'charged', trim_scale(c.charged_money), 'uncharged', trim_scale(c.uncharged_money))
          order by c.currency)
        from mserve.job_cost c where c.job = j.job and c.currency is not null), '[]'),
      'created_at', b.object->'created_at', 'in_progress_at', b.object->'in_progress_at',
      'finished_at', case when p_event.type not in ('batch.in_progress', 'batch.preempted')
        then mserve.unix_time(
          coalesce(j.completed_at, j.failed_at, j.expired_at, j.cancelled_at)) end,
      'errors', b.object->'errors',
      'results', json_build_object(
        'output_file_id', b.object->'output_file_id', 'error_file_id', b.object->'error_file_id',
        'view', 'mserve.batch_results', 'command', 'mserve results ' || b.batch_id),
      'metadata', case when p_metadata then j.metadata end)::text, -1)
    || case when not p_metadata then ', "metadata_omitted" : true' else '' end
    || coalesce(', "preemption" : ' || p_event.detail::text, '') || '}'
  from mserve.jobs j join mserve.batch_object b on b.job = j.job where j.job = p_event.job
$$;
comment on function mserve.webhook_batch is 'The data of an event that tells of a job as a whole.';

-- The status is that of the event's type: what it says stays true, whenever it is written.
create function mserve.webhook_body(p_event mserve.webhook_events) returns text
language plpgsql stable as $$
declare
  v_head text := '{"id":"evt_' || mserve.hex(p_event.event) || '","object":"event","created_at":'
    || mserve.unix_time(p_event.created_at) || ',"type":"' || p_event.type || '","data":';
  v_data text;
begin
  if p_event.job is null then
    v_data := coalesce(p_event.detail::text, '{}');
  elsif p_event.type = 'request.completed' then
    select '{"id":"batch_' || mserve.hex(p_event.job) || '","page":' || p_event.seq
        || ',"requests":[' || coalesce(string_agg(mserve.webhook_row(s.line, s.custom_id, s.status,
          s.status_code, s.input_tokens, s.output_tokens), ',' order by u.place), '') || ']}'
      into v_data
      from unnest(p_event.lines) with ordinality u (line, place)
        join mserve.results s on s.job = p_event.job and s.line = u.line;
  else
    v_data := mserve.webhook_batch(p_event, true);
    if octet_length(v_data) > 19700 then
      v_data := mserve.webhook_batch(p_event, false);
    end if;
    -- A job that was purged before anybody could be told of it; and whatever else, a body fits.
    if v_data is null or octet_length(v_data) > 19700 then
      v_data := '{"id":"batch_' || mserve.hex(p_event.job) || '","status":"'
        || split_part(p_event.type, '.', 2) || '"}';
    end if;
  end if;
  return v_head || v_data || '}';
end $$;
comment on function mserve.webhook_body is 'The body of an event, below 20,000 bytes.';

create function mserve.webhook_compose(p_events uuid[]) returns void language plpgsql as $$
begin
  perform from mserve.webhook_events e where e.event = any(p_events) and e.body is null
    order by e.event for no key update;
  update mserve.webhook_events e set body = mserve.webhook_body(e)
    where e.event = any(p_events) and e.body is null;
end $$;
comment on function mserve.webhook_compose is 'Writes the bodies that are not written yet: once, at the first claim, because money is on the job''s rows.';

-- ------------------------------------------------------------------------------- what happens ----

-- As in 0006. Rows that somebody wants to be told of go into pages, the end of a job into the outbox:
-- an event is there when the state is, and not before.
create or replace function mserve.fold(p_deltas_max bigint)
returns table (event text, job uuid, state text) language plpgsql as $$
#variable_conflict use_column
declare
  d record;
  v_job mserve.jobs;
  v_now timestamptz;
  v_taken bigint := 0;
begin
  for d in
    with gone as (
      delete from mserve.job_deltas
        where id <= (select max(id) from
          (select id from mserve.job_deltas order by id limit p_deltas_max) first_ones)
        returning *),
    rows_of as (
      select g.job, array_agg(u.line order by g.id, u.line) as lines
        from gone g, unnest(g.lines) u (line) where g.lines is not null group by g.job)
    select g.job, count(*) as deltas, sum(completed)::bigint as completed,
        sum(failed)::bigint as failed,
        sum(cancelled)::bigint as cancelled, sum(expired)::bigint as expired,
        sum(input_tokens)::bigint as input_tokens, sum(cached_tokens)::bigint as cached_tokens,
        sum(output_tokens)::bigint as output_tokens, sum(rows_ns)::bigint as rows_ns,
        sum(shared_ns)::bigint as shared_ns, sum(recompute_ns)::bigint as recompute_ns,
        sum(lost_ns)::bigint as lost_ns, r.lines
      from gone g left join rows_of r on r.job = g.job group by g.job, r.lines order by g.job
  loop
    v_taken := v_taken + d.deltas;
    begin
      update mserve.jobs j set completed = j.completed + d.completed, failed = j.failed + d.failed,
          cancelled = j.cancelled + d.cancelled, expired = j.expired + d.expired,
          input_tokens = j.input_tokens + d.input_tokens,
          cached_tokens = j.cached_tokens + d.cached_tokens,
          output_tokens = j.output_tokens + d.output_tokens, rows_ns = j.rows_ns + d.rows_ns,
          shared_ns = j.shared_ns + d.shared_ns, recompute_ns = j.recompute_ns + d.recompute_ns,
          lost_ns = j.lost_ns + d.lost_ns
        where j.job = d.job returning * into v_job;
      if not found then
        continue;
      end if;
      if d.lines is not null then
        insert into mserve.webhook_pages as w (job, lines) values (d.job, d.lines)
          on conflict (job) do update set lines = w.lines || excluded.lines,
            since = case when cardinality(w.lines) = 0 then excluded.since else w.since end;
      end if;
      if v_job.state in ('in_progress', 'cancelling') and v_job.lines
          = v_job.completed + v_job.failed + v_job.cancelled + v_job.expired then
        v_now := clock_timestamp();
        v_job.state := case when v_job.state = 'cancelling' then 'cancelled'
          when v_job.expired > 0 then 'expired' else 'completed' end;
        update mserve.jobs j set state = v_job.state, finalizing_at = v_now,
            completed_at = case when v_job.state = 'completed' then v_now end,
            cancelled_at = case when v_job.state = 'cancelled' then v_now end,
            expired_at = case when v_job.state = 'expired' then v_now end
          where j.job = d.job;
        perform mserve.webhook_page(d.job, true);
        delete from mserve.webhook_pages w where w.job = d.job;
        perform mserve.webhook_emit(d.job, 'batch.' || v_job.state);
        event := 'ended';
        job := d.job;
        state := v_job.state;
        return next;
      end if;
      perform pg_notify('mserve_jobs', d.job::text);
      perform pg_notify('mserve_job_' || mserve.hex(d.job), ''); -- who follows this one
    exception when check_violation then
      insert into mserve.job_deltas (job, completed, failed, cancelled, expired, input_tokens,
          cached_tokens, output_tokens, rows_ns, shared_ns, recompute_ns, lost_ns, lines)
        values (d.job, d.completed, d.failed, d.cancelled, d.expired, d.input_tokens,
          d.cached_tokens, d.output_tokens, d.rows_ns, d.shared_ns, d.recompute_ns, d.lost_ns,
          d.lines);
      event := 'stuck';
      job := d.job;
      state := null;
      return next;
    end;
  end loop;
  perform mserve.webhook_page(w.job, w.since <= clock_timestamp() - interval '1 s')
    from (select w.job, w.since from mserve.webhook_pages w
      where cardinality(w.lines) >= 100
        or (cardinality(w.lines) > 0 and w.since <= clock_timestamp() - interval '1 s')
      order by w.job) w;
  if v_taken >= p_deltas_max then
    event := 'more';
    job := null;
    state := null;
    return next;
  end if;
end $$;

-- As in 0007, and of the jobs in jobs.pages it says which rows it wrote. Nobody waits for a lock on the
-- job: where none is in jobs.pages, that is a look into an empty index.
create or replace function mserve.commit_batch(
  p_worker uuid, p_token bigint, p_seq bigint, p_lease_ms bigint, p_rows bigint,
  p_checkpoints bigint,
  p_topics text[], p_parts integer[], p_epochs bigint[], p_tokens bigint[],
  p_chunk_jobs uuid[], p_chunks integer[], p_chunk_places integer[], p_chunk_maps bit varying[],
  p_discard_jobs uuid[], p_discard_lines bigint[],
  p_attempt_jobs uuid[], p_attempt_lines bigint[], p_attempt_ns bigint[], p_attempt_whys text[],
  p_attempt_numbers integer[], p_attempt_kept integer[], p_attempt_lost integer[],
  p_attempt_kept_ns bigint[], p_attempt_recompute bigint[],
  p_jobs uuid[], p_job_shared bigint[], p_job_recompute bigint[],
  p_held bigint, p_wip bigint, p_wip_jobs json, p_shared bigint, p_recompute bigint,
  p_overhead bigint, p_idle bigint, p_lost bigint, p_sampled bigint,
  out inserted bigint, out duplicates bigint, out late bigint)
language plpgsql as $$
declare
  v_wip bigint;
  v_again bigint;
  v_rows_ns bigint;
  v_lost bigint := 0;
  v_spent bigint;
  v_taken bigint := 0;
  v_taken_anew bigint;
  v_handed bigint := 0;
  v_text text;
  v_paged uuid[]; -- jobs whose rows are told of as they come
  -- Checkpoints that rows take over, and those that cannot be used.
  v_old_jobs uuid[];
  v_old_lines bigint[];
  v_old_ns bigint[];
  v_old_attempts integer[];
  v_old_tokens integer[];
  v_bad_jobs uuid[];
  v_bad_lines bigint[];
  v_bad_ns bigint[];
  v_bad_attempts integer[];
  v_bad_tokens integer[];
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

  -- Fence: every partition with a line in this batch is still the worker's.
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

  -- Chunks: each lies in a partition of the fence; those that get rows are locked in order.
  perform from mserve.chunks c join unnest(p_chunk_jobs, p_chunks, p_chunk_maps) u (job, chunk, map)
      on c.job = u.job and c.chunk = u.chunk
    where bit_count(u.map) > 0
    order by c.job, c.chunk for update of c;
  update mserve.chunks c
    set done_map = c.done_map | u.map, done_count = bit_count(c.done_map | u.map)
    from unnest(p_chunk_jobs, p_chunks, p_chunk_places, p_chunk_maps) u (job, chunk, place, map)
    where c.job = u.job and c.chunk = u.chunk and bit_count(u.map) > 0
      and c.topic = p_topics[u.place] and c.part = p_parts[u.place];
  get diagnostics inserted = row_count;
  if inserted < cardinality(p_chunks) then
    inserted := inserted + (
      select count(*) from unnest(p_chunk_jobs, p_chunks, p_chunk_places, p_chunk_maps)
        u (job, chunk, place, map)
      join mserve.chunks c on c.job = u.job and c.chunk = u.chunk
      where bit_count(u.map) = 0 and c.topic = p_topics[u.place] and c.part = p_parts[u.place]);
  end if;
  if inserted <> cardinality(p_chunks) then
    raise exception 'a chunk is not there, or not in its partition' using errcode = 'MS003';
  end if;

  -- Checkpoints that go: first those that cannot be used, then those of lines that get a row.
  if cardinality(p_discard_jobs) > 0 then
    with gone as (
      delete from mserve.checkpoints c
        using unnest(p_discard_jobs, p_discard_lines) u (job, line)
        where c.job = u.job and c.line = u.line
        returning c.job, c.line, c.gpu_ns, c.attempt, c.tokens)
    select array_agg(job), array_agg(line), array_agg(gpu_ns), array_agg(attempt),
        array_agg(tokens), coalesce(sum(gpu_ns), 0)
      into v_bad_jobs, v_bad_lines, v_bad_ns, v_bad_attempts, v_bad_tokens, v_taken from gone;
  end if;
  if p_rows > 0 then
    with gone as (
      delete from mserve.checkpoints c using pg_temp.staging s
        where c.job = s.job and c.line = s.line and s.chunk is null
        returning c.job, c.line, c.gpu_ns, c.attempt, c.tokens)
    select array_agg(job), array_agg(line), array_agg(gpu_ns), array_agg(attempt),
        array_agg(tokens), v_taken + coalesce(sum(gpu_ns), 0)
      into v_old_jobs, v_old_lines, v_old_ns, v_old_attempts, v_old_tokens, v_taken from gone;
  end if;

  if p_rows > 0 then
    v_paged := array(select j.job from mserve.jobs j
      where j.pages and j.state in ('in_progress', 'cancelling') and j.job = any(p_chunk_jobs));
  end if;

  -- Rows, and what they add to each job, from the rows really inserted.
  with done as (
    insert into mserve.results (job, line, custom_id, status, status_code, response, error,
        input_tokens, cached_tokens, output_tokens, gpu_ns, attempt, recompute_ns, resumed_tokens,
        numerics_changed, worker)
      select s.job, s.line, s.custom_id, s.status, s.status_code, s.response, s.error,
        s.input_tokens, s.cached_tokens, s.output_tokens,
        case when s.status in ('completed', 'failed') then s.gpu_ns + coalesce(o.gpu_ns, 0)
          else s.gpu_ns end,
        greatest(s.attempt, o.attempt), s.recompute_ns, s.resumed_tokens, s.numerics_changed,
        p_worker
      from pg_temp.staging s
        left join unnest(v_old_jobs, v_old_lines, v_old_ns, v_old_attempts)
          o (job, line, gpu_ns, attempt) on o.job = s.job and o.line = s.line
      where s.chunk is null order by s.job, s.line
      on conflict (job, line) do nothing
      returning job, line, status, input_tokens, cached_tokens, output_tokens, gpu_ns),
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
    select u.job, 0, 0, 0, 0, 0, 0, 0, 0, 0, u.shared_ns, u.recompute_ns, 0
      from unnest(p_jobs, p_job_shared, p_job_recompute) u (job, shared_ns, recompute_ns)
      where u.shared_ns > 0 or u.recompute_ns > 0
    union all
    select u.job, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, u.lost_ns
      from unnest(p_attempt_jobs, p_attempt_ns) u (job, lost_ns)),
  deltas as (
    insert into mserve.job_deltas (job, completed, failed, cancelled, expired, input_tokens,
        cached_tokens, output_tokens, rows_ns, shared_ns, recompute_ns, lost_ns)
      select job, sum(completed), sum(failed), sum(cancelled), sum(expired), sum(input_tokens),
        sum(cached_tokens), sum(output_tokens), sum(rows_ns), sum(shared_ns), sum(recompute_ns),
        sum(lost_ns)
      from sums group by job order by job),
  pages as (
    insert into mserve.job_deltas (job, lines)
      select job, array_agg(line) from done
        where cardinality(v_paged) > 0 and job = any(v_paged) group by job order by job)
  select coalesce(sum(n), 0), coalesce(sum(rows_ns), 0) into inserted, v_rows_ns from sums;
  duplicates := p_rows - inserted;

  -- Checkpoints that come: of each line that has no row, also none of this commit.
  late := 0;
  if p_checkpoints > 0 then
    with saved as (
      insert into mserve.checkpoints as c (job, line, chunk, attempt, tokens, gpu_ns, worker, state)
        select s.job, s.line, h.chunk, s.attempt, s.output_tokens, s.gpu_ns, p_worker, s.state
        from pg_temp.staging s
          join mserve.chunks h on h.job = s.job and h.chunk = p_chunks[s.chunk]
        where s.chunk is not null and get_bit(h.done_map, (s.line - h.first_line)::integer) = 0
        order by s.job, s.line
        on conflict (job, line) do update set chunk = excluded.chunk, attempt = excluded.attempt,
          tokens = excluded.tokens, gpu_ns = c.gpu_ns + excluded.gpu_ns, worker = excluded.worker,
          before_tokens = case when c.worker = excluded.worker and c.attempt = excluded.attempt
            then c.before_tokens else c.tokens end,
          before_ns = case when c.worker = excluded.worker and c.attempt = excluded.attempt
            then c.before_ns else c.gpu_ns end,
          saved_at = excluded.saved_at, state = excluded.state
        returning job, line, gpu_ns)
    select p_checkpoints - count(*), coalesce(sum(n.gpu_ns), 0),
        coalesce(sum(n.gpu_ns - s.gpu_ns), 0)
      into late, v_handed, v_taken_anew
      from saved n join pg_temp.staging s
        on s.job = n.job and s.line = n.line and s.chunk is not null;
    v_taken := v_taken + v_taken_anew;
  end if;

  -- Attempts: what no row and no checkpoint took. A row of this transaction's own is no duplicate.
  if duplicates > 0 or late > 0 or v_bad_jobs is not null or v_old_jobs is not null then
    with spent as (
      insert into mserve.attempts (worker, seq, job, line, attempt, gpu_ns, why, tokens_lost)
        select p_worker, p_seq, s.job, s.line, s.attempt, s.gpu_ns + coalesce(o.gpu_ns, 0),
            'duplicate', s.output_tokens
          from pg_temp.staging s
            left join unnest(v_old_jobs, v_old_lines, v_old_ns) o (job, line, gpu_ns)
              on o.job = s.job and o.line = s.line
          where duplicates > 0 and s.chunk is null and not exists (
            select from mserve.results r where r.job = s.job and r.line = s.line
              and r.xmin = pg_current_xact_id()::xid)
        union all
        select p_worker, p_seq, o.job, o.line, o.attempt, o.gpu_ns,
            case s.status when 'cancelled' then 'cancelled' else 'deadline' end, o.tokens
          from unnest(v_old_jobs, v_old_lines, v_old_ns, v_old_attempts, v_old_tokens)
            o (job, line, gpu_ns, attempt, tokens)
            join pg_temp.staging s on s.job = o.job and s.line = o.line and s.chunk is null
          where s.status in ('cancelled', 'expired') and (duplicates = 0 or exists (
            select from mserve.results r where r.job = s.job and r.line = s.line
              and r.xmin = pg_current_xact_id()::xid))
        union all
        select p_worker, p_seq, b.job, b.line, b.attempt, b.gpu_ns, 'unusable', b.tokens
          from unnest(v_bad_jobs, v_bad_lines, v_bad_ns, v_bad_attempts, v_bad_tokens)
            b (job, line, gpu_ns, attempt, tokens)
        union all
        select p_worker, p_seq, s.job, s.line, s.attempt, s.gpu_ns, 'duplicate', null
          from pg_temp.staging s
            join mserve.chunks h on h.job = s.job and h.chunk = p_chunks[s.chunk]
          where late > 0 and s.chunk is not null
            and get_bit(h.done_map, (s.line - h.first_line)::integer) = 1
        returning job, gpu_ns, why),
    deltas as (
      insert into mserve.job_deltas (job, lost_ns)
        select job, sum(gpu_ns) from spent where gpu_ns > 0 group by job order by job)
    select count(*) filter (where why = 'duplicate'), coalesce(sum(gpu_ns), 0) into v_again, v_lost
      from spent;
    if v_again <> duplicates + late then
      raise exception 'the batch has a line twice' using errcode = 'MS003';
    end if;
  end if;
  if cardinality(p_attempt_jobs) > 0 then
    with told as (
      insert into mserve.attempts (worker, seq, job, line, attempt, gpu_ns, why, tokens_kept,
          tokens_lost, kept_ns, recompute_ns)
        select p_worker, p_seq, u.job, u.line, u.attempt, u.gpu_ns, u.why, u.kept, u.lost,
            u.kept_ns, u.recompute_ns
          from unnest(p_attempt_jobs, p_attempt_lines, p_attempt_numbers, p_attempt_ns,
              p_attempt_whys, p_attempt_kept, p_attempt_lost, p_attempt_kept_ns,
              p_attempt_recompute)
            u (job, line, attempt, gpu_ns, why, kept, lost, kept_ns, recompute_ns)
        returning gpu_ns)
    select sum(gpu_ns) into v_spent from told;
    v_lost := v_lost + v_spent;
  end if;

  -- Books.
  insert into mserve.worker_ledger (worker, seq, held_ns, taken_over_ns, rows_ns, handed_over_ns,
      wip_ns, shared_ns, recompute_ns, overhead_ns, idle_ns, lost_ns, sampled)
    values (p_worker, p_seq, p_held, v_taken, v_rows_ns, v_handed, p_wip - v_wip, p_shared,
      p_recompute, p_overhead, p_idle, p_lost + v_lost, p_sampled);
  update mserve.workers w
    set ledger_seq = p_seq, lease_until = greatest(w.lease_until,
        clock_timestamp() + p_lease_ms * interval '1 ms'),
      booked_ns = w.booked_ns + p_held, reported_ns = greatest(w.reported_ns, w.booked_ns + p_held),
      wip_ns = p_wip, wip_jobs = p_wip_jobs
    where w.worker = p_worker;
end $$;

-- As in 0002, and somebody may want to know. Whose job it is is asked as in 0016.
create or replace function mserve.job_seal(p_job uuid, p_chunks integer, p_lines bigint, p_lines_blank bigint)
returns text language plpgsql as $$
declare
  v_job mserve.jobs;
  v_whole boolean;
begin
  select * into v_job from mserve.jobs j
    where j.job = p_job and mserve.is_mine(j.tenant) for update;
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
      in_progress_at = clock_timestamp(), pages = exists (
        select from mserve.webhook_wanted(v_job.tenant, v_job.webhook, 'request.completed'))
    where job = p_job;
  perform mserve.webhook_emit(p_job, 'batch.in_progress');
  insert into mserve.audit_log (action, job) values ('seal', p_job);
  if p_lines = 0 then
    insert into mserve.job_deltas (job) values (p_job);
  end if;
  return 'sealed';
end $$;

-- As in 0002, and somebody may want to know.
create or replace function mserve.job_end_unsealed(p_job uuid, p_state text, p_code text, p_message text)
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
  perform mserve.webhook_emit(p_job, 'batch.' || p_state);
end $$;

-- Whoever buries a worker has written before how its attempts ended: a job that has one among them was
-- interrupted. Once a minute of a job's life. Burials are rare, and only they set closed_at.
create function mserve.webhook_preempted() returns trigger language plpgsql as $$
begin
  if exists (select from mserve.webhook_endpoints e
      where e.state = 'enabled' and 'batch.preempted' = any(e.events)) then
    perform mserve.webhook_emit(j.job, 'batch.preempted',
        floor(extract(epoch from clock_timestamp() - j.created_at) / 60)::bigint, null,
        json_build_object('worker', new.name, 'why', a.why, 'asked_by', new.drain_why))
      from mserve.jobs j cross join lateral (
          select a.why from mserve.attempts a
            where a.job = j.job and a.worker = new.worker and a.why in ('preempted', 'crashed',
              'hung', 'out_of_memory', 'vanished')
            order by a.at desc limit 1) a
      where j.state in ('in_progress', 'cancelling') and j.topic = any(new.topics)
        and exists (select from mserve.webhook_wanted(j.tenant, j.webhook, 'batch.preempted'))
      order by j.job;
  end if;
  return null;
end $$;
comment on function mserve.webhook_preempted is 'Tells of jobs that the end of a worker interrupted.';

create trigger workers_buried after update of closed_at on mserve.workers for each row
  when (old.closed_at is null and new.closed_at is not null)
  execute function mserve.webhook_preempted();
