-- 0004_scheduler.sql: what the control plane does each second, as one call: a scheduler that is
-- stopped or killed at any point has done all of it or nothing, and holds no lock.

-- Adds the deltas to the jobs and moves states by the row as locked. The queue is consumed by
-- deletion: ids become visible out of order, so no watermark could say what was folded. Jobs are
-- locked in order of id. A delta that a job cannot take stays, and is reported each time.
create function mserve.fold() returns table (event text, job uuid, state text) language plpgsql as $$
#variable_conflict use_column
declare
  d record;
  v_job mserve.jobs;
  v_now timestamptz;
begin
  for d in
    with gone as (delete from mserve.job_deltas returning *)
    select g.job, sum(completed)::bigint as completed, sum(failed)::bigint as failed,
        sum(cancelled)::bigint as cancelled, sum(expired)::bigint as expired,
        sum(input_tokens)::bigint as input_tokens, sum(cached_tokens)::bigint as cached_tokens,
        sum(output_tokens)::bigint as output_tokens, sum(rows_ns)::bigint as rows_ns,
        sum(shared_ns)::bigint as shared_ns, sum(recompute_ns)::bigint as recompute_ns,
        sum(lost_ns)::bigint as lost_ns
      from gone g group by g.job order by g.job
  loop
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
end $$;
comment on function mserve.fold is 'Moves the deltas into the jobs, and the jobs to their states.';

-- Ends what nobody goes on with: windows that passed, uploads that fell silent. A sealed job gets a
-- wish, and a zero delta so that the fold looks at it; one that was never accepted ends here.
create function mserve.expire(p_abandoned_ms bigint) returns table (event text, job uuid, state text)
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
      order by j.job for update
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
comment on function mserve.expire is 'Wishes the end of jobs past their window, ends uploads that fell silent.';

-- One scheduler at a time; the lock goes with the transaction, so nobody has to give it back.
create function mserve.tick(p_abandoned_ms bigint) returns table (event text, job uuid, state text)
language plpgsql as $$
begin
  if not pg_try_advisory_xact_lock(x'6d736368'::bigint) then
    return query select 'standby'::text, null::uuid, null::text;
    return;
  end if;
  return query select * from mserve.expire(p_abandoned_ms);
  return query select * from mserve.fold();
end $$;
comment on function mserve.tick is 'What the control plane does each second; the row `standby` when another is at it.';
