-- 0010_healing.sql: chunks whose messages the log has lost: who may say so, what people see of it, and
-- how the same file, submitted again, brings them back.

alter table mserve.chunks add column missing_at timestamptz;
comment on column mserve.chunks.missing is 'Its messages are not where this row says: it is held until the same file is submitted again.';
comment on column mserve.chunks.missing_at is 'When that was found.';

create index chunks_missing on mserve.chunks (job) where missing and not whole;

-- Only the holder of the partition says so, by its epoch and token, and only of the offsets that it
-- read: a chunk that was sent anew meanwhile lies elsewhere. The ownership is kept still until this
-- transaction ends; a commit in flight is waited for. Returns what it marked.
create function mserve.mark_missing(
  p_worker uuid, p_topic text, p_parts integer[], p_epochs bigint[], p_tokens bigint[],
  p_jobs uuid[], p_chunks integer[], p_first_offsets bigint[], p_last_offsets bigint[])
returns table (job uuid, chunk integer) language plpgsql as $$
#variable_conflict use_column
begin
  perform from mserve.partitions p where p.topic = p_topic and p.part = any(p_parts)
    order by p.part for share;
  perform from mserve.chunks c join unnest(p_jobs, p_chunks) u (job, chunk)
      on c.job = u.job and c.chunk = u.chunk
    order by c.job, c.chunk for update of c;
  return query
    with marked as (
      update mserve.chunks c set missing = true, missing_at = clock_timestamp()
        from unnest(p_parts, p_epochs, p_tokens, p_jobs, p_chunks, p_first_offsets, p_last_offsets)
            u (part, epoch, token, job, chunk, first_offset, last_offset)
          join mserve.partitions p on p.topic = p_topic and p.part = u.part
            and p.epoch = u.epoch and p.token = u.token and p.owner = p_worker
        where c.job = u.job and c.chunk = u.chunk and c.topic = p_topic and c.part = u.part
          and c.first_offset = u.first_offset and c.last_offset = u.last_offset
          and not c.missing and not c.whole
        returning c.job, c.chunk),
    told as (
      insert into mserve.audit_log (action, job, detail)
        select 'missing', m.job, json_build_object('worker', p_worker,
            'chunks', json_agg(m.chunk order by m.chunk))
          from marked m group by m.job order by m.job)
    select m.job, m.chunk from marked m;
end $$;
comment on function mserve.mark_missing is 'Marks chunks that the log does not hold, if the worker holds their partitions; returns which.';
comment on column mserve.audit_log.action is 'submit, seal, cancel, expire, abandon, missing (the log lost chunks), heal (they were sent again).';

-- As in 0002; a chunk that is sent again is not missing any more, and the log of deeds says so.
create or replace function mserve.job_add_chunks(
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
  perform from mserve.chunks c where c.job = p_job and c.chunk = any(p_chunks) and c.missing
    order by c.chunk for update;
  with healed as (
    update mserve.chunks c
      set first_offset = u.first_offset, last_offset = u.last_offset, missing = false,
        missing_at = null
      from unnest(p_chunks, p_first_offsets, p_last_offsets) u (chunk, first_offset, last_offset)
      where c.job = p_job and c.chunk = u.chunk and c.missing
      returning c.chunk)
  insert into mserve.audit_log (action, job, detail)
    select 'heal', p_job, json_build_object('chunks', json_agg(h.chunk order by h.chunk))
      from healed h having count(*) > 0;
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

-- ------------------------------------------------------------------------------------- the hold ----

-- Worked out where it is asked for: it cannot say otherwise than the chunks do.
create function mserve.job_hold(p_job uuid) returns json language sql stable as $$
  select json_build_object('code', 'requests_missing',
      'message', format('%s of its requests are missing from the log (%s); submit the same file again',
        sum(c.lines - c.done_count), min(c.topic)),
      'requests', sum(c.lines - c.done_count), 'chunks', count(*),
      'since', mserve.unix_time(min(c.missing_at)))
    from mserve.chunks c where c.job = p_job and c.missing and not c.whole
    having count(*) > 0
$$;
comment on function mserve.job_hold is 'Why a part of the job does not run, {code, message, requests, chunks, since}; null when all of it does.';

-- As in 0003, and whether it is held.
create or replace view mserve.job_status as
select j.job, 'batch_' || mserve.hex(j.job) as batch_id, j.tenant, j.input_name, j.endpoint, j.tier,
  j.model, j.state, j.wish, j.priority, j.lines, j.completed, j.failed, j.cancelled, j.expired,
  j.lines - j.completed - j.failed - j.cancelled - j.expired as remaining,
  case when j.lines > 0
    then round(100.0 * (j.completed + j.failed + j.cancelled + j.expired) / j.lines, 1) end as percent,
  j.input_tokens, j.cached_tokens, j.output_tokens, j.rows_ns, j.created_at, j.in_progress_at,
  coalesce(j.completed_at, j.failed_at, j.expired_at, j.cancelled_at) as ended_at, j.expires_at,
  j.heard_at, j.error_code, j.error_message,
  h.hold->>'code' as hold, h.hold->>'message' as hold_message
from mserve.jobs j left join lateral (select mserve.job_hold(j.job) as hold) h on true;
comment on column mserve.job_status.hold is 'requests_missing: a part of it waits until the same file is submitted again; null: nothing of it is held.';
comment on column mserve.job_status.hold_message is 'The same in a sentence.';
