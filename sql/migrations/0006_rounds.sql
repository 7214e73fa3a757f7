-- 0006_rounds.sql: a fold that is bounded, burials that wait for those who were cut off, and counts
-- that add up.

-- ------------------------------------------------------------------------------------- burials ----

-- How long a lease is: a database that was away longer finds all leases run out, and whoever comes
-- back first must not bury the others. See sql/queries/workers_expired.sql.
alter table mserve.workers add column lease_ms bigint not null default 30000
  constraint workers_lease_positive check (lease_ms > 0);
alter table mserve.workers alter column lease_ms drop default;
comment on column mserve.workers.lease_ms is 'How long its lease is each time: worker.lease of its settings, in ms.';

-- ---------------------------------------------------------------------------------- the rounds ----

-- As in 0004, but at most p_deltas_max of them: millions that wait must not run into the time-out of
-- a statement, again and again. The row `more` says that others may be left. A delta that a job
-- cannot take goes to the end of the queue, so it holds up nobody.
drop function mserve.tick(bigint);
drop function mserve.fold();

create function mserve.fold(p_deltas_max bigint)
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
        returning *)
    select g.job, count(*) as deltas, sum(completed)::bigint as completed,
        sum(failed)::bigint as failed,
        sum(cancelled)::bigint as cancelled, sum(expired)::bigint as expired,
        sum(input_tokens)::bigint as input_tokens, sum(cached_tokens)::bigint as cached_tokens,
        sum(output_tokens)::bigint as output_tokens, sum(rows_ns)::bigint as rows_ns,
        sum(shared_ns)::bigint as shared_ns, sum(recompute_ns)::bigint as recompute_ns,
        sum(lost_ns)::bigint as lost_ns
      from gone g group by g.job order by g.job
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
        event := 'ended';
        job := d.job;
        state := v_job.state;
        return next;
      end if;
      perform pg_notify('mserve_jobs', d.job::text);
    exception when check_violation then
      insert into mserve.job_deltas (job, completed, failed, cancelled, expired, input_tokens,
          cached_tokens, output_tokens, rows_ns, shared_ns, recompute_ns, lost_ns)
        values (d.job, d.completed, d.failed, d.cancelled, d.expired, d.input_tokens,
          d.cached_tokens, d.output_tokens, d.rows_ns, d.shared_ns, d.recompute_ns, d.lost_ns);
      event := 'stuck';
      job := d.job;
      state := null;
      return next;
    end;
  end loop;
  if v_taken >= p_deltas_max then
    event := 'more';
    job := null;
    state := null;
    return next;
  end if;
end $$;
comment on function mserve.fold is 'Moves so many deltas into the jobs, and the jobs to their states; the row `more` when it took as many.';

-- As in 0004, but a job that somebody holds, who may be waiting for us, is left for the next round.
create or replace function mserve.expire(p_abandoned_ms bigint) returns table (event text, job uuid, state text)
language plpgsql as $$
#variable_conflict use_column
declare
  v_job mserve.jobs;
  v_code text;
begin
  for v_job in
    select j.* from mserve.jobs j
      where (j.state in ('validating', 'in_progress') and j.wish is null
          and j.expires_at <= clock_timestamp())
        or (j.state = 'validating'
          and j.heard_at <= clock_timestamp() - p_abandoned_ms * interval '1 ms')
      order by j.job for update skip locked
  loop
    job := v_job.job;
    if v_job.state = 'in_progress' then
      update mserve.jobs j set wish = 'expire' where j.job = v_job.job;
      insert into mserve.job_deltas (job) values (v_job.job);
      event := 'expire';
      state := 'in_progress';
    else
      v_code := case when v_job.expires_at <= clock_timestamp() then 'upload_expired'
        else 'upload_abandoned' end;
      perform mserve.job_end_unsealed(v_job.job, 'failed', v_code, case v_code
        when 'upload_expired' then 'The completion window passed before the upload was complete.'
        else 'Nothing was heard of the upload for too long; nothing of it was run.' end);
      event := 'abandon';
      state := 'failed';
    end if;
    insert into mserve.audit_log (action, job) values (event, v_job.job);
    return next;
  end loop;
end $$;

create function mserve.tick(p_abandoned_ms bigint, p_deltas_max bigint default 1000000)
returns table (event text, job uuid, state text) language plpgsql as $$
begin
  if not pg_try_advisory_xact_lock(x'6d736368'::bigint) then
    return query select 'standby'::text, null::uuid, null::text;
    return;
  end if;
  return query select * from mserve.expire(p_abandoned_ms);
  return query select * from mserve.fold(p_deltas_max);
end $$;
comment on function mserve.tick is 'What the control plane does each second; the row `standby` when another is at it, `more` when it is to be called again.';

-- ---------------------------------------------------------------------------------- the counts ----

-- OpenAI counts total, completed and failed; `cancelled` and `expired` stand beside them, so that the
-- four add up to total when the job has ended.
create or replace view mserve.batch_object as
select j.job, 'batch_' || mserve.hex(j.job) as batch_id, j.tenant, j.created_at,
  json_build_object(
    'id', 'batch_' || mserve.hex(j.job),
    'object', 'batch',
    'endpoint', j.endpoint,
    'model', j.model,
    'errors', case when j.error_code is not null then json_build_object(
      'object', 'list',
      'data', json_build_array(json_build_object(
        'code', j.error_code, 'message', j.error_message, 'param', null, 'line', null))) end,
    'input_file_id', 'file-' || left(encode(j.content_sha256, 'hex'), 32),
    'completion_window', j.completion_window,
    'status', j.state,
    'output_file_id', case when j.completed > 0
      and j.state in ('completed', 'expired', 'cancelled')
      then 'file-' || mserve.hex(j.job) || '-output' end,
    'error_file_id', case when j.failed + j.cancelled + j.expired > 0
      and j.state in ('completed', 'expired', 'cancelled')
      then 'file-' || mserve.hex(j.job) || '-errors' end,
    'created_at', mserve.unix_time(j.created_at),
    'in_progress_at', mserve.unix_time(j.in_progress_at),
    'expires_at', mserve.unix_time(j.expires_at),
    'finalizing_at', mserve.unix_time(j.finalizing_at),
    'completed_at', mserve.unix_time(j.completed_at),
    'failed_at', mserve.unix_time(j.failed_at),
    'expired_at', mserve.unix_time(j.expired_at),
    'cancelling_at', mserve.unix_time(j.cancelling_at),
    'cancelled_at', mserve.unix_time(j.cancelled_at),
    'request_counts', json_build_object(
      'total', coalesce(j.lines, 0), 'completed', j.completed, 'failed', j.failed,
      'cancelled', j.cancelled, 'expired', j.expired),
    'usage', json_build_object(
      'input_tokens', j.input_tokens,
      'input_tokens_details', json_build_object('cached_tokens', j.cached_tokens),
      'output_tokens', j.output_tokens,
      'output_tokens_details', json_build_object('reasoning_tokens', 0),
      'total_tokens', j.input_tokens + j.output_tokens),
    'metadata', j.metadata) as object
from mserve.jobs j;
comment on column mserve.batch_object.object is 'The object. Beside OpenAI''s three, request_counts has cancelled and expired: once the job has ended, the four add up to total.';
