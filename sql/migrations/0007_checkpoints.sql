-- 0007_checkpoints.sql: what a request has cost and brought forth before its worker was gone, so that
-- the next one goes on; and how each attempt ended that brought no row.
--
-- A checkpoint row is written, taken over and deleted by mserve.commit_batch() alone, under the lock
-- of its partition: so nobody ever waits for one.

-- ------------------------------------------------------------------------------------- tables ----

-- Each row is written anew every two seconds. Where a page has room for the next version and no
-- indexed column changes, that leaves nothing behind (HOT): hence the fillfactor, and an index on
-- `worker`, which changes hands once an attempt, but none on `saved_at`. Tokens do not compress.
create table mserve.checkpoints (
  job           uuid not null,
  line          bigint not null,
  chunk         integer not null,
  attempt       integer not null,
  tokens        integer not null,
  gpu_ns        bigint not null,
  before_tokens integer not null default 0,
  before_ns     bigint not null default 0,
  worker        uuid not null,
  saved_at      timestamptz not null default clock_timestamp(),
  state         bytea not null,
  constraint checkpoints_pkey primary key (job, line),
  constraint checkpoints_cost_ascends check (before_ns >= 0 and gpu_ns >= before_ns),
  constraint checkpoints_attempt_positive check (attempt > 0),
  constraint checkpoints_tokens_not_negative check (tokens >= 0 and before_tokens >= 0)
) with (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.2, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.5,
  toast.autovacuum_vacuum_scale_factor = 0.2, toast.autovacuum_vacuum_threshold = 1000,
  toast.autovacuum_vacuum_cost_delay = 0);
alter table mserve.checkpoints alter column state set storage external;
create index checkpoints_of_worker on mserve.checkpoints (worker);
comment on table mserve.checkpoints is 'Unfinished requests: their tokens so far, and what they have cost so far. Gone with the request''s row.';
comment on column mserve.checkpoints.job is 'Whose request.';
comment on column mserve.checkpoints.line is 'Which request.';
comment on column mserve.checkpoints.chunk is 'The chunk that the line is in.';
comment on column mserve.checkpoints.attempt is 'Number of the attempt that wrote it.';
comment on column mserve.checkpoints.tokens is 'Tokens in state, of all attempts.';
comment on column mserve.checkpoints.gpu_ns is 'Device time that the request has cost so far, in all attempts: handed over, and not yet taken over.';
comment on column mserve.checkpoints.before_tokens is 'Of the tokens, those that earlier attempts generated.';
comment on column mserve.checkpoints.before_ns is 'Of the device time, that of earlier attempts.';
comment on column mserve.checkpoints.worker is 'Who wrote it.';
comment on column mserve.checkpoints.saved_at is 'When.';
comment on column mserve.checkpoints.state is 'Tokens, seed, digests; see docs/formats.md. Opaque to SQL.';

-- The queue of progress is filled and emptied each second.
alter table mserve.job_deltas set (autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_threshold = -1);

alter table mserve.results add column recompute_ns bigint not null default 0,
  add column resumed_tokens integer not null default 0,
  add column numerics_changed boolean not null default false;
comment on column mserve.results.gpu_ns is 'Device time that this one request cost, in all attempts that led to its row, nanoseconds.';
comment on column mserve.results.recompute_ns is 'Device time spent on reading it again after a loss: beside gpu_ns, charged to nobody.';
comment on column mserve.results.resumed_tokens is 'Of the output tokens, those that earlier attempts had generated.';
comment on column mserve.results.numerics_changed is 'It went on on another backend, instruction set or GPU: it may differ from an undisturbed run.';

alter table mserve.attempts alter column line drop not null,
  add column attempt integer default 1,
  add column tokens_kept integer,
  add column tokens_lost integer,
  add column kept_ns bigint not null default 0,
  add column recompute_ns bigint not null default 0,
  add column estimated boolean not null default false,
  add constraint attempts_why_known check (why in ('preempted', 'crashed', 'hung', 'out_of_memory',
    'vanished', 'fenced', 'deadline', 'cancelled', 'duplicate', 'unusable')),
  add constraint attempts_cost_not_negative check (gpu_ns >= 0 and kept_ns >= 0 and recompute_ns >= 0);
comment on table mserve.attempts is 'Append-only: runs of a request that ended without its row. gpu_ns is in lost; what a job has lost is the sum of it.';
comment on column mserve.attempts.worker is 'Whose ledger has it: who ran it, or who found a checkpoint that nobody can go on from.';
comment on column mserve.attempts.line is 'Which request; null: a burial that knows only the job''s share.';
comment on column mserve.attempts.gpu_ns is 'What of its cost was lost.';
comment on column mserve.attempts.why is 'preempted (its worker was asked to go), crashed, hung, out_of_memory (its worker died), vanished (it was not heard of any more), fenced (the partition went to another), deadline, cancelled, duplicate (a row was there), unusable (a checkpoint that could not be used).';
comment on column mserve.attempts.attempt is 'Number of the attempt, from 1; null where line is.';
comment on column mserve.attempts.tokens_kept is 'Tokens that it generated and a checkpoint kept; null: not known.';
comment on column mserve.attempts.tokens_lost is 'Tokens that it generated and nothing kept; null: not known.';
comment on column mserve.attempts.kept_ns is 'What of its cost went on in a checkpoint.';
comment on column mserve.attempts.recompute_ns is 'What it spent on reading again what an earlier attempt had read; 0 where estimated: not known.';
comment on column mserve.attempts.estimated is 'Written by a burial, from what the worker last said.';

alter table mserve.worker_ledger add column sampled bigint not null default 0;
comment on column mserve.worker_ledger.sampled is 'Tokens sampled since the row before, whatever became of them.';

alter table mserve.workers add column capacity text
    constraint workers_capacity_known check (capacity in ('spot', 'on_demand', 'reserved')),
  add column price_on_demand_per_hour numeric
    constraint workers_price_on_demand_not_negative check (price_on_demand_per_hour >= 0),
  add column running json,
  add column drain_by timestamptz,
  add column drain_why text,
  add column leave_by timestamptz;
comment on column mserve.workers.capacity is 'How its host was bought: spot, on_demand or reserved; null: not said.';
comment on column mserve.workers.price_on_demand_per_hour is 'What the same device would cost on demand; null: not said.';
comment on column mserve.workers.running is 'The suspects that it runs apart, written before they are launched; null once they are through, and in one that is buried: what they prove stands in suspect_deaths.';
comment on column mserve.workers.drain_by is 'When it is to be gone.';
comment on column mserve.workers.drain_why is 'Who asked it to go: preempted, operator, signal.';
comment on column mserve.workers.leave_by is 'By when an operator wishes it gone; the worker looks once a second.';

-- What jobs had lost before there were rows for it.
insert into mserve.attempts (worker, seq, job, line, attempt, gpu_ns, why, estimated)
  select '00000000-0000-0000-0000-000000000000', 0, l.job, null, null,
    l.lost_ns - coalesce(a.gpu_ns, 0), 'vanished', true
  from (select job, sum(lost_ns) as lost_ns from (
      select job, lost_ns from mserve.jobs union all select job, lost_ns from mserve.job_deltas) b
      group by job) l
    left join (select job, sum(gpu_ns) as gpu_ns from mserve.attempts group by job) a on a.job = l.job
  where l.lost_ns > coalesce(a.gpu_ns, 0);

-- -------------------------------------------------------------------------------------- burial ----

-- As in 0002, and it says how the attempts ended that the worker had under way: a row for each
-- checkpoint of its own in a partition it holds, with what was kept, unless the worker has told of that
-- attempt itself, and one for each job with what was lost. What the worker did after its last commit is in no row: its job is not known.
drop function mserve.bury_worker(uuid, bigint, bigint, text);

create function mserve.bury_worker(p_worker uuid, p_token bigint, p_held bigint, p_why text,
  p_ended text default null)
returns boolean language plpgsql as $$
declare
  v_worker mserve.workers;
  v_held bigint;
  v_estimated boolean := p_token is null;
  v_ended text := coalesce(p_ended, case p_why when 'drained' then 'preempted'
    when 'lease_ran_out' then 'vanished' when 'history' then 'fenced' else 'crashed' end);
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
  if v_held > v_worker.booked_ns or v_worker.wip_ns > 0 then
    v_worker.ledger_seq := v_worker.ledger_seq + 1;
    insert into mserve.worker_ledger (worker, seq, held_ns, rows_ns, wip_ns, shared_ns, recompute_ns,
        overhead_ns, idle_ns, lost_ns, estimated)
      values (p_worker, v_worker.ledger_seq, v_held - v_worker.booked_ns, 0, -v_worker.wip_ns, 0, 0,
        0, 0, v_held - v_worker.booked_ns + v_worker.wip_ns, v_estimated);
    insert into mserve.attempts (worker, seq, job, line, attempt, gpu_ns, why, estimated)
      select p_worker, v_worker.ledger_seq, w.key::uuid, null, null, w.value::bigint, v_ended,
        v_estimated
      from json_each_text(v_worker.wip_jobs) w;
    insert into mserve.job_deltas (job, lost_ns)
      select w.key::uuid, w.value::bigint from json_each_text(v_worker.wip_jobs) w;
  end if;
  insert into mserve.attempts (worker, seq, job, line, attempt, gpu_ns, why, tokens_kept,
      tokens_lost, kept_ns, estimated)
    select p_worker, v_worker.ledger_seq, c.job, c.line, c.attempt, 0, v_ended,
      greatest(c.tokens - c.before_tokens, 0),
      case when not v_estimated and v_worker.wip_ns = 0 then 0 end, c.gpu_ns - c.before_ns,
      v_estimated
    from mserve.checkpoints c
      join mserve.chunks h on h.job = c.job and h.chunk = c.chunk
      join mserve.partitions p on p.topic = h.topic and p.part = h.part
    where c.worker = p_worker and p.owner = p_worker
      and not exists (select from mserve.attempts a where a.job = c.job and a.line = c.line
        and a.worker = p_worker and a.attempt = c.attempt);
  update mserve.partitions p set owner = null where p.owner = p_worker;
  update mserve.workers set closed_at = clock_timestamp(), closed_why = p_why,
      ledger_seq = v_worker.ledger_seq, booked_ns = v_held, reported_ns = v_held, wip_ns = 0,
      wip_jobs = null, running = null
    where worker = p_worker;
  return true;
end $$;
comment on function mserve.bury_worker is 'Closes a worker: what it had in progress is lost, its checkpoints are kept, its partitions are free. p_ended: how its attempts ended; null: as p_why has it. False: there was nothing to bury.';

-- ---------------------------------------------------------------------------------- the commit ----

drop function mserve.commit_batch(
  uuid, bigint, bigint, bigint, bigint, text[], integer[], bigint[], bigint[], uuid[], integer[],
  integer[], bit varying[], uuid[], bigint[], bigint[], text[], uuid[], bigint[], bigint[], bigint[],
  bigint, bigint, json, bigint, bigint, bigint, bigint, bigint);

-- The caller has put the rows and checkpoints into pg_temp.staging in this transaction (a checkpoint
-- has the place of its chunk in p_chunks, from 1; a row has none) and sends COMMIT in the same
-- message as this call. A batch that is sent again finds the gate shut by its own landing.
create function mserve.commit_batch(
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
      from sums group by job order by job)
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
comment on function mserve.commit_batch is 'Gate, fence, bitmaps, rows, checkpoints, attempts and books of one commit; raises when gate or fence is shut.';

-- -------------------------------------------------------------------------------- ledger_check ----

-- As in 0005; and what was handed over and not taken over is what the checkpoints hold, no request
-- has a row and a checkpoint, and what a job has lost its attempts have.
create or replace view mserve.ledger_check as
with ledger as (
  select coalesce(sum(held_ns), 0) as held_ns, coalesce(sum(taken_over_ns), 0) as taken_over_ns,
      coalesce(sum(rows_ns), 0) as rows_ns, coalesce(sum(handed_over_ns), 0) as handed_over_ns,
      coalesce(sum(wip_ns), 0) as wip_ns, coalesce(sum(shared_ns), 0) as shared_ns,
      coalesce(sum(recompute_ns), 0) as recompute_ns, coalesce(sum(overhead_ns), 0) as overhead_ns,
      coalesce(sum(idle_ns), 0) as idle_ns, coalesce(sum(lost_ns), 0) as lost_ns
    from mserve.worker_ledger),
of_rows as (
  select job, count(*) as n, count(*) filter (where status = 'completed') as completed,
      count(*) filter (where status = 'failed') as failed,
      count(*) filter (where status = 'cancelled') as cancelled,
      count(*) filter (where status = 'expired') as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(gpu_ns) as gpu_ns
    from mserve.results group by job),
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
    where coalesce(c.n, 0) <> coalesce(r.n, 0) or c.n <> c.bits),
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
      full join (select job, sum(gpu_ns) as ns from mserve.attempts group by job) a on a.job = j.job
    where coalesce(j.ns, 0) <> coalesce(a.ns, 0)),
workers as (
  select count(*) as n from mserve.workers w
    left join (select worker, sum(held_ns) as held_ns, sum(wip_ns) as wip_ns, max(seq) as seq,
                 sum(rows_ns) as rows_ns
               from mserve.worker_ledger group by worker) l on l.worker = w.worker
    left join (select worker, sum(gpu_ns) as gpu_ns
               from mserve.results group by worker) r on r.worker = w.worker
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
comment on view mserve.ledger_check is 'One row: does the bill add up. The columns that end in unexplained_ns or differ are 0. It reads every row: for operators and tests.';
comment on column mserve.ledger_check.checkpoints_ns is 'Device time on checkpoints, as they are.';
comment on column mserve.ledger_check.checkpoints_unexplained_ns is 'Handed over - taken over - on checkpoints.';
comment on column mserve.ledger_check.checkpoints_differ is 'Checkpoints of requests that have their row.';
comment on column mserve.ledger_check.attempts_differ is 'Jobs that have lost, folded and not, another time than their attempts.';
