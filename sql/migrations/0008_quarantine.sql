-- 0008_quarantine.sql: which requests are suspected of killing workers, on what evidence, and what
-- became of those that were found guilty. What a death says of whom is decided by
-- scheduler/policy/quarantine.h; here it is kept, in the transaction that buries the worker.
--
-- Suspicion ends with the request's own row (sql/commit_script.c) and with nothing else. What is left
-- of a line that has its row is passed over by everybody.

alter table mserve.chunks add column suspect boolean not null default false;
comment on column mserve.chunks.suspect is 'Some of its lines were open when a worker died: whoever reads it asks mserve.suspects and mserve.suspect_deaths.';

create table mserve.suspects (
  job          uuid not null,
  line         bigint not null,
  chunk        integer not null,
  cap          integer not null,
  deaths_alone integer not null default 0,
  since        timestamptz not null default clock_timestamp(),
  constraint suspects_pkey primary key (job, line),
  constraint suspects_cap_positive check (cap > 0),
  constraint suspects_deaths_not_negative check (deaths_alone >= 0)
);
comment on table mserve.suspects is 'Requests that were open at a proven death of their worker, and have no row yet: they run apart.';
comment on column mserve.suspects.job is 'Whose request.';
comment on column mserve.suspects.line is 'Which request.';
comment on column mserve.suspects.chunk is 'The chunk that the line is in.';
comment on column mserve.suspects.cap is 'It runs in sets of so many at most; it only ever shrinks.';
comment on column mserve.suspects.deaths_alone is 'Proven deaths while it ran all alone; three of them are a verdict.';
comment on column mserve.suspects.since is 'When it was first accused.';

create table mserve.suspect_deaths (
  job    uuid not null,
  line   bigint not null,
  worker uuid not null,
  name   text not null,
  host   text not null,
  at     timestamptz not null default clock_timestamp(),
  why    text not null,
  proven boolean not null,
  signal integer,
  thread text,
  open   integer not null,
  apart  boolean not null,
  constraint suspect_deaths_pkey primary key (job, line, worker),
  constraint suspect_deaths_why_known check (why in ('crashed', 'hung', 'out_of_memory', 'vanished'))
);
comment on table mserve.suspect_deaths is 'Which workers died or vanished while a request was open there: the evidence. It goes with the request''s row.';
comment on column mserve.suspect_deaths.job is 'Whose request.';
comment on column mserve.suspect_deaths.line is 'Which request.';
comment on column mserve.suspect_deaths.worker is 'Who died.';
comment on column mserve.suspect_deaths.name is 'What that worker was called.';
comment on column mserve.suspect_deaths.host is 'Where it ran.';
comment on column mserve.suspect_deaths.at is 'When it was buried.';
comment on column mserve.suspect_deaths.why is 'crashed, hung, out_of_memory, or vanished.';
comment on column mserve.suspect_deaths.proven is 'Its parent process saw it die. A host that vanished proves nothing.';
comment on column mserve.suspect_deaths.signal is 'The signal that ended it; null where there was none, or nobody saw it.';
comment on column mserve.suspect_deaths.thread is 'The thread that crashed, as the process said itself.';
comment on column mserve.suspect_deaths.open is 'How many requests were open then, this one included.';
comment on column mserve.suspect_deaths.apart is 'They were a set that ran apart, marked in workers.running before.';

create table mserve.dead_letters (
  job         uuid not null,
  line        bigint not null,
  tenant      text not null,
  custom_id   text not null,
  body        json not null,
  deaths      json not null,
  at          timestamptz not null default clock_timestamp(),
  replayed_as uuid,
  constraint dead_letters_pkey primary key (job, line)
);
comment on table mserve.dead_letters is 'Requests that were found guilty of killing workers. Their result row says worker_crashed.';
comment on column mserve.dead_letters.job is 'Whose request.';
comment on column mserve.dead_letters.line is 'Which request.';
comment on column mserve.dead_letters.tenant is 'Whose job it is.';
comment on column mserve.dead_letters.custom_id is 'The user''s name for it.';
comment on column mserve.dead_letters.body is 'The body as submitted.';
comment on column mserve.dead_letters.deaths is 'The evidence: a row of suspect_deaths each.';
comment on column mserve.dead_letters.at is 'When it was found guilty.';
comment on column mserve.dead_letters.replayed_as is 'The job that `mserve dead-letter replay` made of it last.';

create index dead_letters_of_tenant on mserve.dead_letters (tenant, at desc);

-- ------------------------------------------------------------------------------------- burials ----

-- Of a worker whose parent process saw it end, with what it was at (consumer/recorder.h). The arrays
-- are the requests that were in the engine (p_accused 1) or had left it without a commit that is known
-- (0); cost, tokens and recompute are of this attempt as last written down, p_unbooked what of the latter
-- no commit is known to have booked. What a death says of the accused is p_cap and p_alone. p_ended is how its attempts ended (mserve.attempts.why).
--
-- buried, late (its lease ran out meanwhile: only the accusation is new), or gone.
create function mserve.bury_proven(
  p_worker uuid, p_token bigint, p_why text, p_ended text, p_proven boolean, p_signal integer,
  p_thread text, p_apart boolean, p_cap integer, p_alone integer,
  p_held bigint, p_overhead bigint, p_idle bigint, p_recompute bigint,
  p_jobs uuid[], p_lines bigint[], p_chunks integer[], p_accused integer[], p_attempts integer[],
  p_tokens integer[], p_costs bigint[], p_recomputes bigint[], p_unbooked bigint[])
returns text language plpgsql as $$
declare
  v_worker mserve.workers;
  v_held bigint;
  v_overhead bigint;
  v_idle bigint;
  v_lost bigint;
  v_recompute bigint;
  v_again bigint[];
  v_open integer := (select coalesce(sum(a), 0) from unnest(p_accused) a);
begin
  select * into v_worker from mserve.workers w
    where w.worker = p_worker and w.token = p_token for update;
  if not found or coalesce(v_worker.closed_why, 'lease_ran_out') <> 'lease_ran_out' then
    return 'gone';
  end if;

  if v_worker.closed_at is null then
    perform from mserve.partitions p where p.owner = p_worker order by p.topic, p.part for update;
    v_held := greatest(v_worker.reported_ns, p_held);
    select greatest(p_overhead - coalesce(sum(l.overhead_ns), 0), 0),
        greatest(p_idle - coalesce(sum(l.idle_ns), 0), 0),
        greatest(p_recompute - coalesce(sum(l.recompute_ns), 0), 0)
      into v_overhead, v_idle, v_recompute
      from mserve.worker_ledger l where l.worker = p_worker;
    v_lost := v_held - v_worker.booked_ns + v_worker.wip_ns - v_overhead - v_idle;
    if v_lost < 0 then
      v_lost := v_lost + v_overhead + v_idle;
      v_overhead := 0;
      v_idle := 0;
    end if;
    -- Reading again, by request; together no more than what the device says is not in the ledger: a
    -- commit may have landed and its worker not lived to know.
    v_recompute := least(v_recompute, v_lost);
    select array_agg(case when o.of_all > v_recompute
          then floor(o.ns::numeric * v_recompute / o.of_all)::bigint else o.ns end order by o.place)
      into v_again
      from (select u.place, n.ns, sum(n.ns) over () as of_all
        from unnest(p_jobs, p_lines, p_unbooked) with ordinality u (job, line, ns, place)
          cross join lateral (select case when exists (select from mserve.results r
            where r.job = u.job and r.line = u.line) then 0 else u.ns end as ns) n) o;
    v_recompute := coalesce((select sum(a) from unnest(v_again) a), 0);
    v_lost := v_lost - v_recompute;
    v_worker.ledger_seq := v_worker.ledger_seq + 1;
    insert into mserve.worker_ledger (worker, seq, held_ns, rows_ns, wip_ns, shared_ns, recompute_ns,
        overhead_ns, idle_ns, lost_ns)
      values (p_worker, v_worker.ledger_seq, v_held - v_worker.booked_ns, 0, -v_worker.wip_ns, 0,
        v_recompute, v_overhead, v_idle, v_lost);
    -- What a request had cost and no checkpoint holds. The numbers were written down one by one: where
    -- they come to more than the device's own, all of them shrink alike.
    with told as (
      select u.job, u.line, u.attempt, u.tokens, u.recompute, u.again,
          case when own.job is not null then own.gpu_ns - own.before_ns else 0 end as kept_ns,
          case when own.job is not null then greatest(own.tokens - own.before_tokens, 0) else 0 end
            as kept,
          greatest(u.tokens - coalesce(c.tokens, 0), 0) as lost,
          greatest(u.cost - case when own.job is not null then own.gpu_ns - own.before_ns else 0 end,
            0) as lost_ns
        from unnest(p_jobs, p_lines, p_attempts, p_tokens, p_costs, p_recomputes, v_again)
            u (job, line, attempt, tokens, cost, recompute, again)
          left join mserve.checkpoints c on c.job = u.job and c.line = u.line
          left join mserve.checkpoints own on own.job = u.job and own.line = u.line
            and own.worker = p_worker and own.attempt = u.attempt
        where not exists (select from mserve.results r where r.job = u.job and r.line = u.line)),
    measured as (
      insert into mserve.attempts (worker, seq, job, line, attempt, gpu_ns, why, tokens_kept,
          tokens_lost, kept_ns, recompute_ns)
        select p_worker, v_worker.ledger_seq, t.job, t.line, t.attempt,
            case when sum(t.lost_ns) over () > v_lost
              then floor(t.lost_ns::numeric * v_lost / sum(t.lost_ns) over ())::bigint
              else t.lost_ns end,
            p_ended, t.kept, t.lost, t.kept_ns, t.recompute
          from told t
        returning job, gpu_ns)
    insert into mserve.job_deltas (job, lost_ns, recompute_ns)
      select job, sum(lost_ns), sum(recompute_ns) from (
          select job, gpu_ns as lost_ns, 0 as recompute_ns from measured
          union all select job, 0, again from told) d
        group by job having sum(lost_ns) + sum(recompute_ns) > 0 order by job;
    update mserve.partitions p set owner = null where p.owner = p_worker;
    update mserve.workers set closed_at = clock_timestamp(), closed_why = p_why,
        ledger_seq = v_worker.ledger_seq, booked_ns = v_held, reported_ns = v_held, wip_ns = 0,
        wip_jobs = null, running = null
      where worker = p_worker;
  end if;

  if p_proven and v_open > 0 then
    perform from mserve.chunks c join unnest(p_jobs, p_chunks, p_accused) u (job, chunk, accused)
        on c.job = u.job and c.chunk = u.chunk
      where u.accused = 1 order by c.job, c.chunk for update of c;
    update mserve.chunks c set suspect = true
      from unnest(p_jobs, p_chunks, p_accused) u (job, chunk, accused)
      where c.job = u.job and c.chunk = u.chunk and u.accused = 1 and not c.suspect;
    -- A late burial whose reply was lost comes again: one death accuses once.
    with accused as (
      select u.job, u.line, u.chunk from unnest(p_jobs, p_lines, p_chunks, p_accused)
          u (job, line, chunk, accused)
        where u.accused = 1
          and not exists (select from mserve.results r where r.job = u.job and r.line = u.line)
          and not exists (select from mserve.suspect_deaths d where d.job = u.job
            and d.line = u.line and d.worker = p_worker and d.proven)
        order by u.job, u.line),
    told as (
      insert into mserve.suspect_deaths (job, line, worker, name, host, why, proven, signal, thread,
          open, apart)
        select a.job, a.line, p_worker, v_worker.name, v_worker.host, p_ended, true, p_signal,
            nullif(p_thread, ''), v_open, p_apart
          from accused a
        on conflict (job, line, worker) do update set why = excluded.why, proven = true,
          signal = excluded.signal, thread = excluded.thread, open = excluded.open,
          apart = excluded.apart)
    insert into mserve.suspects as s (job, line, chunk, cap, deaths_alone)
      select a.job, a.line, a.chunk, p_cap, p_alone from accused a
      on conflict (job, line) do update set cap = least(s.cap, excluded.cap),
        deaths_alone = s.deaths_alone + excluded.deaths_alone;
  end if;
  return case when v_worker.closed_at is null then 'buried' else 'late' end;
end $$;
comment on function mserve.bury_proven is 'Closes a worker whose end was seen, to the request, and says whom its death accuses: buried, late or gone.';

-- Of a worker whose lease ran out. What is known to have been open there (its checkpoints, and the set
-- that it ran apart) is noted beside it, and accuses nobody yet; not where it had notice.
create function mserve.bury_vanished(p_worker uuid) returns boolean language plpgsql as $$
declare
  v_worker mserve.workers;
  v_lines mserve.suspect_deaths[];
begin
  select * into v_worker from mserve.workers w
    where w.worker = p_worker and w.closed_at is null and w.lease_until < clock_timestamp()
    for update;
  if not found then
    return false;
  end if;
  perform from mserve.partitions p where p.owner = p_worker order by p.topic, p.part for update;
  if not v_worker.draining then
    with apart as (
      select a.job, a.line, a.chunk from json_to_recordset(coalesce(v_worker.running, '[]'))
        a (job uuid, line bigint, chunk integer)),
    lines as (
      select c.job, c.line, c.chunk from mserve.checkpoints c where c.worker = p_worker
      union select a.job, a.line, a.chunk from apart a),
    open as (
      select l.job, l.line, l.chunk, exists (select from apart a where a.job = l.job and a.line = l.line)
          as apart
        from lines l
          join mserve.chunks h on h.job = l.job and h.chunk = l.chunk
          join mserve.partitions p on p.topic = h.topic and p.part = h.part and p.owner = p_worker
        where get_bit(h.done_map, (l.line - h.first_line)::integer) = 0),
    locked as (
      select c.job, c.chunk from mserve.chunks c
        where (c.job, c.chunk) in (select job, chunk from open)
        order by c.job, c.chunk for update),
    marked as (
      update mserve.chunks c set suspect = true from locked l
        where c.job = l.job and c.chunk = l.chunk and not c.suspect)
    insert into mserve.suspect_deaths (job, line, worker, name, host, why, proven, open, apart)
      select o.job, o.line, p_worker, v_worker.name, v_worker.host, 'vanished', false,
          case when o.apart then (select count(*) from apart) else (select count(*) from open) end,
          o.apart
        from open o order by o.job, o.line
      on conflict do nothing;
  end if;
  return mserve.bury_worker(p_worker, null, 0, 'lease_ran_out');
end $$;
comment on function mserve.bury_vanished is 'Closes a worker whose lease ran out, and notes what it had open.';

-- ------------------------------------------------------------------------------------ verdicts ----

-- Before the row `worker_crashed` is committed; again after a death between the two: nothing changes.
create function mserve.dead_letter_add(p_job uuid, p_line bigint, p_custom_id text, p_body json)
returns json language plpgsql as $$
declare
  v_deaths json;
begin
  select json_agg(json_build_object('worker', d.worker, 'name', d.name, 'host', d.host, 'at', d.at,
      'why', d.why, 'proven', d.proven, 'signal', d.signal, 'thread', d.thread, 'open', d.open,
      'apart', d.apart) order by d.at)
    into v_deaths from mserve.suspect_deaths d where d.job = p_job and d.line = p_line;
  insert into mserve.dead_letters (job, line, tenant, custom_id, body, deaths)
    select p_job, p_line, j.tenant, p_custom_id, p_body, coalesce(v_deaths, '[]')
      from mserve.jobs j where j.job = p_job
    on conflict (job, line) do nothing;
  return coalesce(v_deaths, '[]');
end $$;
comment on function mserve.dead_letter_add is 'Keeps a request that was found guilty, with its evidence; returns the evidence.';
