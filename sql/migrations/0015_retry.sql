-- 0015_retry.sql: jobs that go on where others ended, jobs that wait, and jobs that are forgotten.

alter table mserve.jobs add column retry_of uuid, add column retry_root uuid;
alter table mserve.jobs add constraint jobs_retry_has_root check ((retry_of is null) = (retry_root is null));
comment on column mserve.jobs.retry_of is 'The job whose failed, cancelled or expired lines it repeats; null: none.';
comment on column mserve.jobs.retry_root is 'The first job of that chain.';
alter table mserve.jobs add column purged_at timestamptz;
comment on column mserve.jobs.purged_at is 'When its rows were purged; counts, tokens and cost stay. Null: they were not.';
create index jobs_of_chain on mserve.jobs (retry_root, job) where retry_root is not null;

create table mserve.retried_lines (
  job       uuid not null,
  line      bigint not null,
  root_line bigint not null,
  constraint retried_lines_pkey primary key (job, line),
  constraint retried_lines_job_fkey foreign key (job) references mserve.jobs (job) on delete cascade
);
comment on table mserve.retried_lines is 'Which line of the first job of its chain a line of a retry repeats.';
comment on column mserve.retried_lines.job is 'The retry.';
comment on column mserve.retried_lines.line is 'Its line.';
comment on column mserve.retried_lines.root_line is 'The line of jobs.retry_root.';

-- --------------------------------------------------------------------------------------- retry ----

-- The lines of a job with these outcomes. Invalid ones, which --on-invalid skip let pass, never ran and
-- never will: their rows begin with the number of their line (producer/line_index.h).
create function mserve.retry_lines(p_job uuid, p_status text[])
returns table (line bigint, root_line bigint, status text, invalid boolean) language sql stable as $$
  select r.line, coalesce(p.root_line, r.line), r.status,
      coalesce(r.status = 'failed' and r.status_code = 400 and r.gpu_ns = 0
        and r.response::text ~ '^[{]"error":[{]"message":"line [0-9]+: ', false)
    from mserve.results r left join mserve.retried_lines p on p.job = r.job and p.line = r.line
    where r.job = p_job and r.status = any(p_status)
$$;
comment on function mserve.retry_lines is 'Which lines of a job a retry may repeat, and which lines of the first job of the chain they are.';

-- Says whose retry an upload is, and of which lines, before it is sealed: p_limit of them at a time,
-- behind line p_after of the old job, of which p_done were taken; p_skipped are not. Again, by whomever: nothing changes.
-- Returns the last line taken, null at the end, and how many lines the retry has so far.
create function mserve.job_link_retry(p_job uuid, p_of uuid, p_status text[], p_skipped bigint[],
  p_after bigint, p_done bigint, p_limit bigint, out last bigint, out done bigint)
language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j
    where j.job = p_job and mserve.is_mine(j.tenant) for update;
  if not exists (select from mserve.jobs j where j.job = p_of and j.tenant = v_job.tenant) then
    return;
  end if;
  if v_job.state = 'validating' and v_job.retry_of is null then
    update mserve.jobs j set retry_of = p_of, retry_root = coalesce(o.retry_root, o.job),
        webhook = coalesce(j.webhook, o.webhook)
      from mserve.jobs o where j.job = p_job and o.job = p_of;
    insert into mserve.audit_log (action, job, detail)
      values ('retry', p_job, json_build_object('of', 'batch_' || mserve.hex(p_of)));
  end if;
  with next as (
    select x.line, x.root_line, p_done - 1 + row_number() over (order by x.line) as number
      from mserve.retry_lines(p_of, p_status) x
      where x.line > p_after and not x.invalid and x.line <> all(p_skipped)
      order by x.line limit p_limit),
  added as (
    insert into mserve.retried_lines (job, line, root_line)
      select p_job, n.number, n.root_line from next n
        where v_job.state = 'validating'
      on conflict do nothing)
  select max(n.line), p_done + count(*) into last, done from next n;
end $$;
comment on function mserve.job_link_retry is 'Links a job that is being uploaded to the job whose lines it repeats.';

-- ------------------------------------------------------------------------------- pause, resume ----

-- A hold is no state: the window goes on running, and what is cancelled or has expired ends as ever.
alter table mserve.jobs add column hold text constraint jobs_hold_known check (hold in ('paused')),
  add column hold_at timestamptz,
  add constraint jobs_hold_has_time check ((hold is null) = (hold_at is null));
comment on column mserve.jobs.hold is 'paused: nothing of it is begun until its owner resumes it; null: it is not held. Without meaning once it has ended.';
comment on column mserve.jobs.hold_at is 'Since when it is held.';

alter table mserve.attempts drop constraint attempts_why_known,
  add constraint attempts_why_known check (why in ('preempted', 'crashed', 'hung', 'out_of_memory',
    'vanished', 'fenced', 'deadline', 'cancelled', 'duplicate', 'unusable', 'held'));
comment on column mserve.attempts.why is 'preempted (its worker was asked to go), crashed, hung, out_of_memory (its worker died), vanished (it was not heard of any more), fenced (the partition went to another), deadline (the window or a time limit passed), cancelled, duplicate (a row was there), unusable (a checkpoint that could not be used), held (its job was paused).';

-- Pauses (p_hold 'paused') or resumes (null) a job that has not ended and is not to end. Its workers
-- hear of it within a second. What is so already stays as it is. p_job null: there is none.
create function mserve.job_set_hold(p_job uuid, p_hold text, out state text, out held boolean)
language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j
    where j.job = p_job and mserve.is_mine(j.tenant) for update; -- 0016
  state := v_job.state;
  held := v_job.hold is not null;
  if not found or v_job.state not in ('validating', 'in_progress') or v_job.wish is not null
     or v_job.hold is not distinct from p_hold then
    return;
  end if;
  update mserve.jobs j set hold = p_hold,
      hold_at = case when p_hold is not null then clock_timestamp() end
    where j.job = p_job;
  insert into mserve.audit_log (action, job)
    values (case when p_hold is null then 'resume' else 'pause' end, p_job);
  perform pg_notify('mserve_jobs', p_job::text);
  held := p_hold is not null;
end $$;
comment on function mserve.job_set_hold is 'Pauses or resumes a job; returns its state, and whether it is held now.';

-- As in 0010; a job that is paused is held as a whole.
create or replace function mserve.job_hold(p_job uuid) returns json language sql stable as $$
  select coalesce((
    select json_build_object('code', 'paused',
        'message', format('it is paused; `mserve resume` lets its %srequests run',
          case when c.open is not null then c.open || ' remaining ' else '' end),
        'requests', c.open, 'chunks', c.chunks, 'since', mserve.unix_time(j.hold_at))
      from mserve.jobs j cross join lateral (
        select sum(c.lines - c.done_count) as open, count(*) as chunks
          from mserve.chunks c where c.job = j.job and not c.whole) c
      where j.job = p_job and j.hold is not null and j.wish is null
        and j.state in ('validating', 'in_progress')),
    (select json_build_object('code', 'requests_missing',
        'message', format('%s of its requests are missing from the log (%s); submit the same file again',
          sum(c.lines - c.done_count), min(c.topic)),
        'requests', sum(c.lines - c.done_count), 'chunks', count(*),
        'since', mserve.unix_time(min(c.missing_at)))
      from mserve.chunks c where c.job = p_job and c.missing and not c.whole
      having count(*) > 0))
$$;
comment on function mserve.job_hold is 'Why the job, or a part of it, does not run, {code, message, requests, chunks, since}; null when all of it does.';
comment on column mserve.job_status.hold is 'paused: nothing of it runs until it is resumed; requests_missing: a part of it waits until the same file is submitted again; null: nothing of it is held.';
comment on column mserve.audit_log.action is 'submit, seal, cancel, expire, abandon, missing (the log lost chunks), heal (they were sent again), retry, pause, resume.';
