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
comment on column mserve.audit_log.action is 'submit, seal, cancel, expire, abandon, missing (the log lost chunks), heal (they were sent again), retry, pause, resume, purge.';

-- ---------------------------------------------------------------------------- retention, purge ----

-- When a body was used last: a job that sends it again refreshes it (mserve.blob_put).
update mserve.blobs set created_at = clock_timestamp();
comment on column mserve.blobs.created_at is 'When a job that uses it was last uploaded, to the hour.';

-- What was purged, added up in the transaction that deletes it, so that the books and the bill go on
-- adding up. Purged in several batches, a job has several rows.
create table mserve.purged_costs (
  job           uuid not null,
  month         date not null,
  worker        uuid,
  why           text,
  requests      bigint not null default 0,
  completed     bigint not null default 0,
  failed        bigint not null default 0,
  cancelled     bigint not null default 0,
  expired       bigint not null default 0,
  input_tokens  bigint not null default 0,
  cached_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  rows_ns       bigint not null default 0,
  recompute_ns  bigint not null default 0,
  lost_ns       bigint not null default 0,
  estimated     bigint not null default 0,
  tokens_kept   bigint,
  tokens_lost   bigint,
  kept_ns       bigint not null default 0
);
create index purged_costs_of_job on mserve.purged_costs (job);
create policy own on mserve.purged_costs
  using (exists (select from mserve.jobs j where j.job = purged_costs.job));
comment on table mserve.purged_costs is 'Append-only: what purged rows and attempts had cost, by month and worker. The views of the books add it to what is there.';
comment on column mserve.purged_costs.job is 'Whose requests.';
comment on column mserve.purged_costs.month is 'First day of the month in which they were committed, in UTC.';
comment on column mserve.purged_costs.worker is 'Who had written them.';
comment on column mserve.purged_costs.why is 'Of attempts: how they ended; null: result rows.';
comment on column mserve.purged_costs.requests is 'How many rows, or attempts.';
comment on column mserve.purged_costs.completed is 'Of the rows, with this status; so the next three.';
comment on column mserve.purged_costs.failed is 'Likewise.';
comment on column mserve.purged_costs.cancelled is 'Likewise.';
comment on column mserve.purged_costs.expired is 'Likewise.';
comment on column mserve.purged_costs.input_tokens is 'Prompt tokens of the rows.';
comment on column mserve.purged_costs.cached_tokens is 'Of these, found in the KV cache.';
comment on column mserve.purged_costs.output_tokens is 'Tokens generated.';
comment on column mserve.purged_costs.rows_ns is 'Device time on the rows.';
comment on column mserve.purged_costs.recompute_ns is 'Device time spent on reading again.';
comment on column mserve.purged_costs.lost_ns is 'Device time of attempts that came to nothing.';
comment on column mserve.purged_costs.estimated is 'Of the attempts, those told by a burial.';
comment on column mserve.purged_costs.tokens_kept is 'Of the attempts; null: not known.';
comment on column mserve.purged_costs.tokens_lost is 'Likewise.';
comment on column mserve.purged_costs.kept_ns is 'Device time of attempts that went on in a checkpoint.';

create function mserve.uuid7_at(p_at timestamptz) returns uuid language sql immutable as $$
  select (lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
comment on function mserve.uuid7_at is 'The lowest id of that moment: a range of time as a range of ids.';

-- The months of the rows: this one and the next two have partitions of their own, where nothing is in the
-- way: rows of that time in the default partition, or one so large that looking through it would hold
-- up writers. Never waits long for a lock: whoever calls comes again. Returns what is in the way.
create function mserve.results_ahead() returns text language plpgsql
security definer set search_path = pg_catalog, pg_temp set lock_timeout = '500ms' as $$
declare
  v_month timestamp;
  v_name text;
  v_from uuid;
  v_to uuid;
  v_said text;
begin
  for n in 0..2 loop
    v_month := date_trunc('month', clock_timestamp() at time zone 'UTC') + n * interval '1 month';
    v_name := 'results_' || to_char(v_month, 'YYYYMM');
    continue when to_regclass('mserve.' || v_name) is not null;
    v_from := mserve.uuid7_at(v_month at time zone 'UTC');
    v_to := mserve.uuid7_at((v_month + interval '1 month') at time zone 'UTC');
    if pg_relation_size('mserve.results_default') > 64 * 1024 * 1024 then
      return 'the default partition of mserve.results is large; new rows go there';
    elsif exists (select from mserve.results_default r where r.job >= v_from and r.job < v_to) then
      v_said := format('the default partition of mserve.results has rows of %s, which stays there',
        to_char(v_month, 'YYYY-MM'));
      continue;
    end if;
    begin
      execute format('create table mserve.%I partition of mserve.results for values from (%L) to (%L)',
        v_name, v_from, v_to);
    exception
      when lock_not_available then return 'mserve.results is busy; the next time';
      when duplicate_table then null;
    end;
  end loop;
  return v_said;
end $$;
comment on function mserve.results_ahead is 'Makes the partitions of this month and the next two; returns what is in the way, or null.';
select mserve.results_ahead();

create function mserve.job_ended_before(p_job mserve.jobs, p_before timestamptz) returns boolean
language sql immutable as $$
  select coalesce(p_job.state in ('completed', 'failed', 'expired', 'cancelled')
    and coalesce(p_job.completed_at, p_job.failed_at, p_job.expired_at, p_job.cancelled_at) < p_before,
    false)
$$;
comment on function mserve.job_ended_before is 'Whether a job had ended by then.';

-- One purge at a time, so that each row is added up once.
create function mserve.purge_lock() returns void language sql volatile as $$
  select pg_advisory_xact_lock(x'6d737075'::bigint)
$$;
comment on function mserve.purge_lock is 'Waits until nobody else purges.';

-- A whole month: dropped (its rows are added up, and gone), kept (some job of that time is not to be purged),
-- or busy (rows are being read or written; nothing was done).
create function mserve.purge_partition(p_name text, p_before timestamptz) returns text
language plpgsql set lock_timeout = '500ms' as $$
declare
  v_month timestamp := to_date(right(p_name, 6), 'YYYYMM')::timestamp;
  v_from uuid;
  v_to uuid;
begin
  v_from := mserve.uuid7_at(v_month at time zone 'UTC');
  v_to := mserve.uuid7_at((v_month + interval '1 month') at time zone 'UTC');
  if (v_month + interval '1 month') at time zone 'UTC' > clock_timestamp() - interval '1 hour'
     or exists (select from mserve.jobs j where j.job >= v_from and j.job < v_to
                  and not mserve.job_ended_before(j, p_before)) then
    return 'kept';
  end if;
  begin
    perform mserve.purge_lock();
    update mserve.jobs j set purged_at = clock_timestamp()
      where j.job >= v_from and j.job < v_to and j.purged_at is null;
    insert into mserve.purged_costs (job, month, worker, requests, completed, failed, cancelled, expired,
        input_tokens, cached_tokens, output_tokens, rows_ns, recompute_ns)
      select r.job, date_trunc('month', r.finished_at at time zone 'UTC')::date, r.worker, count(*),
          count(*) filter (where r.status = 'completed'), count(*) filter (where r.status = 'failed'),
          count(*) filter (where r.status = 'cancelled'),
          count(*) filter (where r.status = 'expired'), sum(r.input_tokens), sum(r.cached_tokens),
          sum(r.output_tokens), sum(r.gpu_ns), sum(r.recompute_ns)
        from mserve.results r where r.job >= v_from and r.job < v_to
        group by 1, 2, 3;
    execute format('alter table mserve.results detach partition mserve.%I', p_name);
    execute format('drop table mserve.%I', p_name);
  exception when lock_not_available then
    return 'busy';
  end;
  return 'dropped';
end $$;
comment on function mserve.purge_partition is 'Drops a month of rows whose jobs all ended before; dropped, kept or busy.';

-- So many rows of a job that ended before; returns how many, null when it is not to be purged. From the
-- first on people are told that it was purged.
create function mserve.purge_rows(p_job uuid, p_before timestamptz, p_rows_max integer) returns bigint
language plpgsql as $$
declare
  v_gone bigint;
begin
  perform mserve.purge_lock();
  perform from mserve.jobs j where j.job = p_job and mserve.job_ended_before(j, p_before) for update;
  if not found then
    return null;
  end if;
  update mserve.jobs j set purged_at = clock_timestamp() where j.job = p_job and j.purged_at is null;
  with gone as (
    delete from mserve.results r
      where r.job = p_job and r.line = any (array(
        select o.line from mserve.results o where o.job = p_job order by o.line limit p_rows_max))
      returning r.*),
  summed as (
    insert into mserve.purged_costs (job, month, worker, requests, completed, failed, cancelled, expired,
        input_tokens, cached_tokens, output_tokens, rows_ns, recompute_ns)
      select p_job, date_trunc('month', r.finished_at at time zone 'UTC')::date, r.worker, count(*),
          count(*) filter (where r.status = 'completed'), count(*) filter (where r.status = 'failed'),
          count(*) filter (where r.status = 'cancelled'),
          count(*) filter (where r.status = 'expired'), sum(r.input_tokens), sum(r.cached_tokens),
          sum(r.output_tokens), sum(r.gpu_ns), sum(r.recompute_ns)
        from gone r group by 2, 3
      returning requests)
  select coalesce(sum(s.requests), 0) into v_gone from summed s;
  return v_gone;
end $$;
comment on function mserve.purge_rows is 'Purges so many rows of a job that ended before; null: it is not to be purged.';

-- What else there is of a job without rows. Its chunks are the sign that not all was purged, so they go
-- last. Documents stay while they are the newest of their series: the next night is compared with them.
create function mserve.purge_rest(p_job uuid) returns void language plpgsql as $$
begin
  perform mserve.purge_lock();
  with gone as (delete from mserve.attempts a where a.job = p_job returning a.*)
  insert into mserve.purged_costs (job, month, worker, why, requests, recompute_ns, lost_ns, estimated,
      tokens_kept, tokens_lost, kept_ns)
    select p_job, date_trunc('month', a.at at time zone 'UTC')::date, a.worker, a.why, count(*),
        sum(a.recompute_ns), sum(a.gpu_ns), count(*) filter (where a.estimated), sum(a.tokens_kept),
        sum(a.tokens_lost), sum(a.kept_ns)
      from gone a group by 2, 3, 4;
  delete from mserve.dead_letters d where d.job = p_job;
  delete from mserve.suspects s where s.job = p_job;
  delete from mserve.suspect_deaths d where d.job = p_job;
  delete from mserve.retried_lines l where l.job = p_job;
  delete from mserve.documents d using mserve.jobs j
    where d.job = p_job and j.job = p_job and (j.series is null or exists (
      select from mserve.jobs k join mserve.documents n on n.job = k.job
        where k.tenant = j.tenant and k.series = j.series and k.job > j.job and k.lines is not null
          and n.path = d.path));
  delete from mserve.webhook_pages w where w.job = p_job;
  delete from mserve.webhook_events e where e.job = p_job and not exists (
    select from mserve.webhook_deliveries d where d.event = e.event and d.state = 'pending');
  delete from mserve.chunks c where c.job = p_job;
  insert into mserve.audit_log (action, job) values ('purge', p_job);
end $$;
comment on function mserve.purge_rest is 'Purges what there is of a job beside its rows.';

-- Bodies that no job can need: each was used last before any job was made of which there is something.
create function mserve.purge_blobs(p_before timestamptz, p_blobs_max integer) returns bigint
language plpgsql as $$
declare
  v_gone bigint;
begin
  delete from mserve.blobs b using (
      select o.tenant, o.sha256
        from mserve.blobs o
          left join (select k.tenant, min(k.created_at) as first_at from mserve.jobs k
            where k.purged_at is null group by k.tenant) j on j.tenant = o.tenant
        where o.created_at < least(p_before, least(j.first_at, clock_timestamp()) - interval '2 hours')
        limit p_blobs_max) old
    where b.tenant = old.tenant and b.sha256 = old.sha256;
  get diagnostics v_gone = row_count;
  return v_gone;
end $$;
comment on function mserve.purge_blobs is 'Purges so many bodies that no job can need any more.';

-- As in 0007, and what was purged counts as if it were there. Of a purged job there are no bits.
create or replace view mserve.ledger_check as
with ledger as (
  select coalesce(sum(held_ns), 0) as held_ns, coalesce(sum(taken_over_ns), 0) as taken_over_ns,
      coalesce(sum(rows_ns), 0) as rows_ns, coalesce(sum(handed_over_ns), 0) as handed_over_ns,
      coalesce(sum(wip_ns), 0) as wip_ns, coalesce(sum(shared_ns), 0) as shared_ns,
      coalesce(sum(recompute_ns), 0) as recompute_ns, coalesce(sum(overhead_ns), 0) as overhead_ns,
      coalesce(sum(idle_ns), 0) as idle_ns, coalesce(sum(lost_ns), 0) as lost_ns
    from mserve.worker_ledger),
of_rows as (
  select job, sum(n) as n, sum(completed) as completed, sum(failed) as failed,
      sum(cancelled) as cancelled, sum(expired) as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(gpu_ns) as gpu_ns
    from (
      select job, count(*) as n, count(*) filter (where status = 'completed') as completed,
          count(*) filter (where status = 'failed') as failed,
          count(*) filter (where status = 'cancelled') as cancelled,
          count(*) filter (where status = 'expired') as expired, sum(input_tokens) as input_tokens,
          sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
          sum(gpu_ns) as gpu_ns
        from mserve.results group by job
      union all
      select job, requests, completed, failed, cancelled, expired, input_tokens, cached_tokens,
          output_tokens, rows_ns from mserve.purged_costs where why is null) both_of_them
    group by job),
of_jobs as (
  select job, sum(completed) as completed, sum(failed) as failed, sum(cancelled) as cancelled,
      sum(expired) as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(rows_ns) as gpu_ns, sum(shared_ns) as shared_ns, sum(recompute_ns) as recompute_ns
    from (
      select job, completed, failed, cancelled, expired, input_tokens, cached_tokens, output_tokens,
          rows_ns, shared_ns, recompute_ns from mserve.jobs
      union all
      select job, completed, failed, cancelled, expired, input_tokens, cached_tokens, output_tokens,
          rows_ns, shared_ns, recompute_ns from mserve.job_deltas) both_of_them
    group by job),
differ as (
  select count(*) as jobs from of_jobs j full join of_rows r on r.job = j.job
    where (coalesce(j.completed, 0), coalesce(j.failed, 0), coalesce(j.cancelled, 0),
        coalesce(j.expired, 0), coalesce(j.input_tokens, 0), coalesce(j.cached_tokens, 0),
        coalesce(j.output_tokens, 0), coalesce(j.gpu_ns, 0))
      <> (coalesce(r.completed, 0), coalesce(r.failed, 0), coalesce(r.cancelled, 0),
        coalesce(r.expired, 0), coalesce(r.input_tokens, 0), coalesce(r.cached_tokens, 0),
        coalesce(r.output_tokens, 0), coalesce(r.gpu_ns, 0))),
bits as (
  select count(*) as jobs from (
    select c.job, sum(c.done_count) as n, sum(bit_count(c.done_map)) as bits
      from mserve.chunks c group by c.job) c full join of_rows r on r.job = c.job
      left join mserve.jobs j on j.job = r.job
    where j.purged_at is null and (coalesce(c.n, 0) <> coalesce(r.n, 0) or c.n <> c.bits)),
saved as (
  select coalesce(sum(gpu_ns), 0) as ns from mserve.checkpoints),
beside as (
  select count(*) as n from mserve.checkpoints c
    join mserve.results r on r.job = c.job and r.line = c.line),
losses as (
  select count(*) as jobs
    from (select job, sum(lost_ns) as ns from (
        select job, lost_ns from mserve.jobs union all select job, lost_ns from mserve.job_deltas) b
        group by job) j
      full join (select job, sum(ns) as ns from (
          select job, gpu_ns as ns from mserve.attempts
          union all select job, lost_ns from mserve.purged_costs) b
        group by job) a on a.job = j.job
    where coalesce(j.ns, 0) <> coalesce(a.ns, 0)),
workers as (
  select count(*) as n from mserve.workers w
    left join (select worker, sum(held_ns) as held_ns, sum(wip_ns) as wip_ns, max(seq) as seq,
                 sum(rows_ns) as rows_ns
               from mserve.worker_ledger group by worker) l on l.worker = w.worker
    left join (select worker, sum(gpu_ns) as gpu_ns from (
                 select worker, gpu_ns from mserve.results
                 union all select worker, rows_ns from mserve.purged_costs) b
               group by worker) r on r.worker = w.worker
    where (w.booked_ns, w.wip_ns, w.ledger_seq, coalesce(r.gpu_ns, 0))
      <> (coalesce(l.held_ns, 0), coalesce(l.wip_ns, 0), coalesce(l.seq, 0),
        coalesce(l.rows_ns, 0)))
select l.held_ns, l.taken_over_ns, coalesce((select sum(gpu_ns) from of_rows), 0) as rows_ns,
  l.handed_over_ns, l.wip_ns, l.shared_ns, l.recompute_ns, l.overhead_ns, l.idle_ns, l.lost_ns,
  l.held_ns + l.taken_over_ns - coalesce((select sum(gpu_ns) from of_rows), 0) - l.handed_over_ns
    - l.wip_ns - l.shared_ns - l.recompute_ns - l.overhead_ns - l.idle_ns - l.lost_ns
    as unexplained_ns,
  l.shared_ns + l.recompute_ns
    - coalesce((select sum(shared_ns) + sum(recompute_ns) from of_jobs), 0) as jobs_unexplained_ns,
  d.jobs as jobs_differ, b.jobs as bitmaps_differ, w.n as workers_differ,
  s.ns as checkpoints_ns, l.handed_over_ns - l.taken_over_ns - s.ns as checkpoints_unexplained_ns,
  e.n as checkpoints_differ, x.jobs as attempts_differ
from ledger l, differ d, bits b, workers w, saved s, beside e, losses x;

-- As in 0003 and 0009, likewise.
create or replace view mserve.job_cost as
with by_worker as (
  select r.job, r.worker, sum(r.ns) as ns
    from (
      select job, worker, gpu_ns as ns from mserve.results where gpu_ns > 0
      union all select job, worker, rows_ns from mserve.purged_costs where rows_ns > 0) r
    group by r.job, r.worker),
by_currency as (
  select b.job, w.currency, sum(b.ns) as ns, sum(b.ns * w.price_per_hour) / 3600000000000 as money
    from by_worker b join mserve.workers w on w.worker = b.worker group by b.job, w.currency),
shares as (
  select c.*, c.ns / sum(c.ns) over (partition by c.job) as share, c.money / c.ns as per_ns
    from by_currency c)
select j.job, 'batch_' || mserve.hex(j.job) as batch_id, j.tenant, j.tier, j.state, s.currency,
  coalesce(s.ns, 0) as rows_ns,
  coalesce(trunc(j.shared_ns * s.share), j.shared_ns) as shared_ns,
  coalesce(trunc(j.recompute_ns * s.share), j.recompute_ns) as recompute_ns,
  coalesce(trunc(j.lost_ns * s.share), j.lost_ns) as lost_ns,
  round(coalesce(s.money, 0), 9) as rows_money,
  round(coalesce(j.shared_ns * s.share * s.per_ns, 0), 9) as shared_money,
  round(coalesce(s.money + j.shared_ns * s.share * s.per_ns, 0), 9) as charged_money,
  round(coalesce((j.recompute_ns + j.lost_ns) * s.share * s.per_ns, 0), 9) as uncharged_money
from mserve.jobs j left join shares s on s.job = j.job;
create or replace view mserve.bill as
with ledger as (
  select date_trunc('month', at at time zone 'UTC')::date as month, worker, sum(rows_ns) as rows_ns,
      sum(shared_ns) as shared_ns, sum(recompute_ns) as recompute_ns, sum(lost_ns) as lost_ns,
      sum(overhead_ns) as overhead_ns, sum(idle_ns) as idle_ns,
      sum(wip_ns + handed_over_ns - taken_over_ns) as open_ns
    from mserve.worker_ledger group by 1, 2),
of_jobs as (
  select month, worker, job, sum(requests)::bigint as requests, sum(rows_ns) as rows_ns,
      sum(recompute_ns) as recompute_ns, sum(lost_ns) as lost_ns
    from (
      select date_trunc('month', finished_at at time zone 'UTC')::date as month, worker, job,
          1 as requests, gpu_ns as rows_ns, recompute_ns, 0 as lost_ns
        from mserve.results where worker is not null
      union all
      select date_trunc('month', at at time zone 'UTC')::date, worker, job, 0, 0, recompute_ns, gpu_ns
        from mserve.attempts
      union all
      select month, worker, job, case when why is null then requests else 0 end, rows_ns, recompute_ns,
          lost_ns
        from mserve.purged_costs where worker is not null) all_of_them
    group by month, worker, job),
shares as (
  select o.*, coalesce(trunc(l.shared_ns * j.shared_ns
      / nullif(sum(j.shared_ns) over (partition by o.month, o.worker), 0)), 0) as shared_ns
    from of_jobs o left join ledger l on l.month = o.month and l.worker = o.worker
      left join mserve.jobs j on j.job = o.job),
borne as (
  select month, worker, sum(rows_ns) as rows_ns, sum(shared_ns) as shared_ns,
      sum(recompute_ns) as recompute_ns, sum(lost_ns) as lost_ns
    from shares group by month, worker)
select month, worker, job, requests, rows_ns, shared_ns, recompute_ns, lost_ns,
    0::numeric as overhead_ns, 0::numeric as idle_ns, 0::numeric as open_ns
  from shares
union all
select coalesce(l.month, b.month), coalesce(l.worker, b.worker), null, 0,
    coalesce(l.rows_ns, 0) - coalesce(b.rows_ns, 0),
    coalesce(l.shared_ns, 0) - coalesce(b.shared_ns, 0),
    coalesce(l.recompute_ns, 0) - coalesce(b.recompute_ns, 0),
    coalesce(l.lost_ns, 0) - coalesce(b.lost_ns, 0),
    coalesce(l.overhead_ns, 0), coalesce(l.idle_ns, 0), coalesce(l.open_ns, 0)
  from ledger l full join borne b on b.month = l.month and b.worker = l.worker;
create or replace view mserve.job_bill as
with rows_of as (
  select r.job, p.currency, sum(r.ns) as ns, sum(r.ns * p.on_demand_per_ns) as on_demand
    from (select job, worker, gpu_ns as ns from mserve.results
      union all select job, worker, rows_ns from mserve.purged_costs where why is null) r
      join mserve.bill_prices p on p.worker = r.worker
    group by r.job, p.currency),
again as (
  select u.job, p.currency, sum(u.ns) as ns, sum(u.ns * p.price_per_ns) as money
    from (select job, worker, recompute_ns as ns from mserve.results where recompute_ns > 0
      union all select job, worker, gpu_ns + recompute_ns from mserve.attempts
      union all select job, worker, lost_ns + recompute_ns from mserve.purged_costs) u
      join mserve.bill_prices p on p.worker = u.worker
    group by u.job, p.currency)
select c.job, c.currency, c.charged_money, round(coalesce(a.money, 0), 9) as preemption_money,
  round(r.on_demand * (r.ns + c.shared_ns) / r.ns, 9) as on_demand_money,
  round(r.on_demand * (r.ns + c.shared_ns) / r.ns, 9) - c.charged_money
    - round(coalesce(a.money, 0), 9) as saved_money,
  coalesce(a.ns, 0)::bigint as preemption_ns
from mserve.job_cost c join rows_of r on r.job = c.job and r.currency = c.currency and r.ns > 0
  left join again a on a.job = c.job and a.currency = c.currency;
create or replace view mserve.job_attempts as
select a.job, a.why, sum(a.attempts)::bigint as attempts, sum(a.estimated)::bigint as estimated,
  sum(a.tokens_kept)::bigint as tokens_kept, sum(a.tokens_lost)::bigint as tokens_lost,
  sum(a.kept_ns)::bigint as kept_ns, sum(a.lost_ns)::bigint as lost_ns,
  sum(a.recompute_ns)::bigint as recompute_ns, p.currency,
  round(sum((a.lost_ns + a.recompute_ns) * p.price_per_ns), 9) as money
from (
  select job, worker, why, 1 as attempts, estimated::integer as estimated, tokens_kept, tokens_lost,
      kept_ns, gpu_ns as lost_ns, recompute_ns
    from mserve.attempts
  union all
  select job, worker, why, requests, estimated, tokens_kept, tokens_lost, kept_ns, lost_ns,
      recompute_ns
    from mserve.purged_costs where why is not null) a
  left join mserve.bill_prices p on p.worker = a.worker
group by a.job, a.why, p.currency;
