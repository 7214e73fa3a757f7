-- 0016_tenants.sql: a role sees the rows of its tenant, and no others.

-- -------------------------------------------------------------------------------------- bodies ----

-- A body belongs to a tenant: whoever knows the digest of another's neither learns that it is there
-- nor has it run. Whose the bodies were that are there already nobody wrote down: each tenant that
-- has jobs gets its own copy.
alter table mserve.blobs add column tenant text not null default 'default';
alter table mserve.blobs alter column tenant set default mserve.current_tenant(),
  drop constraint blobs_pkey,
  add constraint blobs_pkey primary key (tenant, sha256);
insert into mserve.blobs (tenant, sha256, body, created_at)
  select t.tenant, b.sha256, b.body, b.created_at
    from mserve.blobs b, (select distinct tenant from mserve.jobs where tenant <> 'default') t;
comment on column mserve.blobs.tenant is 'Whose body it is.';

create function mserve.blob_put(p_sha256 bytea, p_body bytea) returns void language sql
security definer set search_path = pg_catalog, pg_temp as $$
  insert into mserve.blobs (sha256, body) values (p_sha256, p_body)
    on conflict (tenant, sha256) do update set created_at = clock_timestamp()
      where blobs.created_at < clock_timestamp() - interval '1 hour'
$$;
comment on function mserve.blob_put is 'Keeps a body, compressed, for the caller''s tenant.';

-- ---------------------------------------------------------------------------------- whose it is ----

create table mserve.roles (
  role       text not null,
  kind       text not null,
  tenant     text,
  granted_at timestamptz not null default clock_timestamp(),
  constraint roles_pkey primary key (role),
  constraint roles_tenant_fkey foreign key (tenant) references mserve.tenants (tenant),
  constraint roles_kind_known check (kind in ('tenant', 'reader', 'worker', 'scheduler')),
  constraint roles_people_have_a_tenant check ((tenant is not null) = (kind in ('tenant', 'reader')))
);
comment on table mserve.roles is 'Which PostgreSQL roles may do what, beside the first of each tenant (tenants.role) and the owner.';
comment on column mserve.roles.role is 'A role that logs in.';
comment on column mserve.roles.kind is 'tenant (submits, sees and cancels what is its tenant''s), reader (sees it), worker, scheduler.';
comment on column mserve.roles.tenant is 'Whose; null for workers and schedulers, which serve all.';
comment on column mserve.roles.granted_at is 'Since when.';

alter table mserve.tenants add column erased_at timestamptz;
comment on column mserve.tenants.erased_at is 'When its bodies were erased last; null: never.';
alter table mserve.jobs add column erased_at timestamptz;
comment on column mserve.jobs.erased_at is 'When its bodies, names and metadata were erased; counts, tokens and cost stay. Null: they were not.';

-- By the role that logged in, which neither `set role` nor a function of another owner changes. A role
-- that nobody made known has none, and sees nothing whatever it was granted by hand.
create or replace function mserve.current_tenant() returns text language sql stable
security definer set search_path = pg_catalog, pg_temp as $$
  select coalesce((select t.tenant from mserve.tenants t where t.role = session_user),
    (select r.tenant from mserve.roles r where r.role = session_user),
    case when pg_has_role(session_user, current_user, 'member') then 'default' end)
$$;
comment on function mserve.current_tenant is 'The tenant of the role that logged in; `default` for the owner of the schema, null for who has none.';

-- For functions that run with the owner's rights.
create function mserve.is_mine(p_tenant text) returns boolean language sql stable
security definer set search_path = pg_catalog, pg_temp as $$
  select p_tenant = mserve.current_tenant() or pg_has_role(session_user, current_user, 'member')
$$;
comment on function mserve.is_mine is 'Whether what is of this tenant is the caller''s to change: its own, or anything where it is the owner.';

-- ------------------------------------------------------------------- what tenants do to their jobs ----
-- They write into no table: what they do are functions, which run with the owner's rights and look
-- for themselves whose job it is. Another's is as one that is not there.

-- As in 0010, and whose it is.
create or replace function mserve.job_add_chunks(
  p_job uuid, p_chunks integer[], p_first_lines bigint[], p_lines integer[], p_parts integer[],
  p_first_offsets bigint[], p_last_offsets bigint[], p_bytes bigint[], p_sha256 bytea[],
  p_custom_ids bytea[], p_work bigint[])
returns boolean language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j
    where j.job = p_job and mserve.is_mine(j.tenant) for share;
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

-- As in 0002, and whose it is.
create or replace function mserve.job_cancel(p_job uuid) returns text language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j
    where j.job = p_job and mserve.is_mine(j.tenant) for update;
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

create function mserve.job_heard(p_job uuid) returns void language sql
security definer set search_path = pg_catalog, pg_temp as $$
  update mserve.jobs j set heard_at = clock_timestamp()
    where j.job = p_job and j.state = 'validating' and mserve.is_mine(j.tenant)
$$;
comment on function mserve.job_heard is 'The submitter of this job is alive.';

create function mserve.dead_letter_replayed(p_job uuid, p_line bigint, p_key text) returns void
language sql security definer set search_path = pg_catalog, pg_temp as $$
  update mserve.dead_letters d set replayed_as = j.job
    from mserve.jobs j
    where d.tenant = mserve.current_tenant() and d.job = p_job and d.line = p_line
      and j.tenant = d.tenant and j.idempotency_key = p_key
$$;
comment on function mserve.dead_letter_replayed is 'Says which job repeats a dead letter of the caller''s.';

-- Webhooks of the caller's tenant; a sealed secret is for who has the key (config/seal.h). An event that
-- a tenant could write itself might take the place of another's.
create function mserve.webhook_add(p_endpoint uuid, p_name text, p_url text, p_events text[],
  p_every_job boolean, p_secret bytea) returns void language sql
security definer set search_path = pg_catalog, pg_temp as $$
  insert into mserve.webhook_endpoints (endpoint, name, url, events, every_job, secret)
    values (p_endpoint, p_name, p_url, coalesce(p_events,
      '{batch.completed,batch.failed,batch.expired,batch.cancelled}'), p_every_job, p_secret)
$$;
comment on function mserve.webhook_add is 'Adds an endpoint of the caller''s tenant; p_events null: those of the ends of jobs.';

create function mserve.webhook_enable(p_endpoint uuid) returns void language sql
security definer set search_path = pg_catalog, pg_temp as $$
  update mserve.webhook_endpoints e
    set state = 'enabled', disabled_at = null, disabled_why = null, failing_since = null,
      failures = 0, rest_until = '-infinity'
    where e.endpoint = p_endpoint and e.tenant = mserve.current_tenant() and e.state = 'disabled'
$$;
comment on function mserve.webhook_enable is 'Enables an endpoint of the caller''s tenant; what it failed before counts no more.';

create function mserve.webhook_disable_mine(p_endpoint uuid) returns boolean language sql
security definer set search_path = pg_catalog, pg_temp as $$
  select mserve.webhook_disable(e.endpoint, 'asked') from mserve.webhook_endpoints e
    where e.endpoint = p_endpoint and e.tenant = mserve.current_tenant()
$$;
comment on function mserve.webhook_disable_mine is 'Disables an endpoint of the caller''s tenant.';

create function mserve.webhook_rotate(p_endpoint uuid, p_secret bytea, p_overlap_ms bigint)
returns void language sql
security definer set search_path = pg_catalog, pg_temp as $$
  update mserve.webhook_endpoints e
    set old_secret = case when p_overlap_ms > 0 then e.secret end,
      old_until = case when p_overlap_ms > 0
        then clock_timestamp() + p_overlap_ms * interval '1 ms' end, secret = p_secret
    where e.endpoint = p_endpoint and e.tenant = mserve.current_tenant()
$$;
comment on function mserve.webhook_rotate is 'Gives an endpoint of the caller''s tenant another secret; the old one signs too for so long.';

create function mserve.webhook_pages_on(p_endpoint uuid) returns void language sql
security definer set search_path = pg_catalog, pg_temp as $$
  with wanted as (
    select j.job from mserve.webhook_endpoints e join mserve.jobs j on j.tenant = e.tenant
      where e.endpoint = p_endpoint and e.tenant = mserve.current_tenant() and e.state = 'enabled'
        and 'request.completed' = any(e.events) and (e.every_job or j.webhook = e.endpoint)
        and j.state in ('in_progress', 'cancelling') and not j.pages
      order by j.job for no key update of j)
  update mserve.jobs j set pages = true from wanted w where j.job = w.job
$$;
comment on function mserve.webhook_pages_on is 'Jobs under way tell of their rows from now on, if this endpoint wants that. Locked in the order in which the fold locks them.';

create function mserve.webhook_test(p_endpoint uuid) returns setof uuid language sql
security definer set search_path = pg_catalog, pg_temp as $$
  with event as (
    insert into mserve.webhook_events (event, tenant, type, detail)
      select mserve.uuid7(), e.tenant, 'webhook.test', json_build_object('id', e.endpoint,
          'object', 'webhook_endpoint', 'name', e.name,
          'message', 'This is a test; nothing has happened.')
        from mserve.webhook_endpoints e
        where e.endpoint = p_endpoint and e.tenant = mserve.current_tenant()
      returning event),
  told as (
    insert into mserve.webhook_deliveries (endpoint, event)
      select p_endpoint, v.event from event v)
  select v.event from event v cross join lateral pg_notify('mserve_webhooks', '') n
$$;
comment on function mserve.webhook_test is 'An event of no job, owed to one endpoint of the caller''s tenant; returns its id, no row: there is no such endpoint.';

create function mserve.webhook_replay(p_endpoint uuid, p_event uuid, p_lost boolean, p_since_ms bigint)
returns bigint language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_again bigint;
begin
  update mserve.webhook_deliveries d
    set state = 'pending', attempts = 0, due_at = clock_timestamp(), ended_at = null,
      lease_until = null, token = null
    from mserve.webhook_endpoints e, mserve.webhook_events v
    where e.endpoint = d.endpoint and v.event = d.event and e.tenant = mserve.current_tenant()
      and e.state = 'enabled' and d.state <> 'pending'
      and (p_endpoint is null or d.endpoint = p_endpoint)
      and (p_event is null or d.event = p_event)
      and (not p_lost or d.state in ('failed', 'dropped'))
      and (p_since_ms is null or v.created_at >= clock_timestamp() - p_since_ms * interval '1 ms');
  get diagnostics v_again = row_count;
  if v_again > 0 then
    perform pg_notify('mserve_webhooks', '');
  end if;
  return v_again;
end $$;
comment on function mserve.webhook_replay is 'Owes events of the caller''s tenant again, under the same ids, by a schedule that begins anew; returns how many.';

create function mserve.webhook_of_job(p_job uuid, p_endpoint uuid, out is_set boolean, out name text)
returns setof record language sql
security definer set search_path = pg_catalog, pg_temp as $$
  with changed as (
    update mserve.jobs j set webhook = p_endpoint
      where j.job = p_job and j.tenant = mserve.current_tenant() and j.state = 'validating'
      returning j.webhook)
  select coalesce((select true from changed), j.webhook is not distinct from p_endpoint), e.name
    from mserve.jobs j
      left join mserve.webhook_endpoints e on e.endpoint = j.webhook and e.tenant = j.tenant
    where j.job = p_job and j.tenant = mserve.current_tenant()
$$;
comment on function mserve.webhook_of_job is 'The endpoint that is to hear of a job that is not sealed yet; whether it has this one now, and the name of the one it has.';

-- What a row of `workers` says of all tenants' jobs, of the caller's own.
create function mserve.job_fleet(p_job uuid, out devices bigint, out wip_ns bigint, out price numeric,
  out currency text, out kept_ns bigint)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select count(*) filter (where w.closed_at is null),
    coalesce(sum((w.wip_jobs->>p_job::text)::bigint), 0)::bigint,
    case when count(distinct (w.price_per_hour, w.currency)) = 1 then max(w.price_per_hour) end,
    max(w.currency),
    (select coalesce(sum(c.gpu_ns), 0) from mserve.checkpoints c where c.job = p_job)::bigint
  from mserve.jobs j join mserve.workers w on j.topic = any (w.topics) and w.device <> 'none'
    and (w.closed_at is null or w.closed_at >= j.created_at)
  where j.job = p_job and mserve.is_mine(j.tenant)
$$;
comment on function mserve.job_fleet is 'The devices that are there for a job, the device time that is in progress on them and in checkpoints, and what they cost an hour where all cost the same.';

-- -------------------------------------------------------------------------------------- policies ----
-- Row-level security is on for every table (mserve.secure() sees to it), so that a table without a
-- policy shows nothing to anybody but the owner. Whether a row is seen is asked of the row's tenant, or
-- of its job, which is a row that is seen or not. current_tenant() is called once a statement.

create policy own on mserve.tenants using (tenant = (select mserve.current_tenant()));
create policy own on mserve.jobs using (tenant = (select mserve.current_tenant()));
create policy own on mserve.blobs using (tenant = (select mserve.current_tenant()));
create policy own on mserve.dead_letters using (tenant = (select mserve.current_tenant()));
create policy own on mserve.webhook_endpoints using (tenant = (select mserve.current_tenant()));
create policy own on mserve.webhook_events using (tenant = (select mserve.current_tenant()));

create policy own on mserve.chunks
  using (exists (select from mserve.jobs j where j.job = chunks.job));
create policy own on mserve.results
  using (exists (select from mserve.jobs j where j.job = results.job));
create policy own on mserve.checkpoints
  using (exists (select from mserve.jobs j where j.job = checkpoints.job));
create policy own on mserve.attempts
  using (exists (select from mserve.jobs j where j.job = attempts.job));
create policy own on mserve.suspects
  using (exists (select from mserve.jobs j where j.job = suspects.job));
create policy own on mserve.suspect_deaths
  using (exists (select from mserve.jobs j where j.job = suspect_deaths.job));
create policy own on mserve.job_deltas
  using (exists (select from mserve.jobs j where j.job = job_deltas.job));
create policy own on mserve.audit_log
  using (exists (select from mserve.jobs j where j.job = audit_log.job));
create policy own on mserve.documents
  using (exists (select from mserve.jobs j where j.job = documents.job));
create policy own on mserve.retried_lines
  using (exists (select from mserve.jobs j where j.job = retried_lines.job));
create policy own on mserve.webhook_pages
  using (exists (select from mserve.jobs j where j.job = webhook_pages.job));
create policy own on mserve.webhook_deliveries
  using (exists (select from mserve.webhook_endpoints e where e.endpoint = webhook_deliveries.endpoint));
create policy own on mserve.webhook_attempts
  using (exists (select from mserve.webhook_endpoints e where e.endpoint = webhook_attempts.endpoint));

-- Of nobody's: which migrations there are, which models, and what the devices of workers cost (of
-- these rows a tenant may read the columns that the bill is made of).
create policy everybody on mserve.schema_migrations for select using (true);
create policy everybody on mserve.models for select using (true);
create policy everybody on mserve.workers for select using (true);

-- ---------------------------------------------------------------------------------------- rights ----

-- Rights are given to the login roles themselves and not to groups that they are in: names of roles are
-- those of the whole server, where several databases may hold this schema, and an owner need not be
-- allowed to make roles.

-- An entry whose object is not there is passed over: functions come and go with migrations. `definer`
-- is no kind: functions that run with the owner's rights, as all do by which tenants change something,
-- though nobody may call them: triggers.
create function mserve.rights() returns table (kind text, object text, verbs text)
language sql immutable as $$
  select r.kind, o.object, r.verbs from (values
    ('reader', 'select', '{schema_migrations,tenants,models,jobs,chunks,results,attempts,dead_letters,
        job_deltas,documents,purged_costs,retried_lines,webhook_events,webhook_deliveries,
        webhook_attempts}'::text[]),
    ('reader', 'select (worker, model, currency, capacity, price_per_hour, price_on_demand_per_hour)',
      '{workers}'),
    ('reader', 'select (endpoint, tenant, name, url, events, every_job, old_until, state, disabled_at,
        disabled_why, failing_since, failures, rest_until, delivered_at, created_at)',
      '{webhook_endpoints}'),
    ('reader', 'execute', '{current_tenant,event_id,hex,job_fleet,job_hold,retry_lines,
        series_documents,unix_time}'),
    ('tenant', 'select', '{blobs,webhook_endpoints}'),
    ('tenant', 'execute', '{blob_put,dead_letter_replayed}'),
    ('tenant', 'execute', '{job_add_chunks,job_add_documents,job_cancel,job_heard,job_open,job_seal}'),
    ('tenant', 'execute', '{job_link_retry,job_set_hold}'),
    ('tenant', 'execute', '{webhook_add,webhook_disable_mine,webhook_enable,webhook_of_job,
        webhook_pages_on,webhook_replay,webhook_rotate,webhook_test}'),
    ('worker', 'select', '{schema_migrations,models,jobs,blobs}'),
    ('worker', 'select, update', '{chunks,partitions}'),
    ('worker', 'select, insert, update', '{workers}'),
    ('worker', 'select, insert', '{results,attempts,worker_ledger,dead_letters}'),
    ('worker', 'select, insert, update, delete', '{checkpoints,suspects,suspect_deaths}'),
    ('worker', 'insert', '{job_deltas,audit_log}'),
    ('worker', 'execute', '{bury_proven,bury_vanished,bury_worker,check_accepted,claim_partitions,
        commit_batch,current_tenant,dead_letter_add,hex,mark_missing,random_token,release_partitions,
        unix_time,uuid7}'),
    ('definer', 'execute', '{results_ahead,webhook_preempted}')) r (kind, verbs, objects),
    unnest(r.objects) o (object)
$$;
comment on function mserve.rights is 'What the kinds of roles may do to which tables and functions. A tenant may do all that a reader may, a scheduler nearly everything.';

-- Gives a role the rights of its kind in this schema, and takes all others that it had; kind null
-- takes all.
create function mserve.give_rights(p_role text, p_kind text) returns void language plpgsql as $$
declare
  v_what text;
begin
  perform pg_advisory_xact_lock(x'6d7365727665'::bigint); -- as `mserve migrate`: one at a time
  execute format('revoke all on schema mserve from %I', p_role);
  execute format('revoke all on all tables in schema mserve from %I', p_role);
  execute format('revoke all on all functions in schema mserve from %I', p_role);
  if p_kind is null then
    return;
  end if;
  execute format('grant usage on schema mserve to %I', p_role);
  for v_what in
    select format('%s on %s', r.verbs, c.oid::regclass)
      from mserve.rights() r join pg_class c on c.relname = r.object and c.relkind in ('r', 'p')
        and c.relnamespace = 'mserve'::regnamespace
      where r.kind = p_kind or (r.kind = 'reader' and p_kind = 'tenant')
    union all
    select format('execute on function %s', p.oid::regprocedure)
      from mserve.rights() r join pg_proc p on p.proname = r.object
        and p.pronamespace = 'mserve'::regnamespace
      where r.kind = p_kind or (r.kind = 'reader' and p_kind = 'tenant')
    union all
    select format('select on %s', c.oid::regclass) from pg_class c
      where c.relnamespace = 'mserve'::regnamespace and c.relkind = 'v'
        and (p_kind = 'scheduler' or (p_kind in ('tenant', 'reader')
          and c.relname not in ('bill', 'ledger_check')))
    union all
    select format(case when c.relname in ('roles', 'tenants', 'schema_migrations') then 'select on %s'
        else 'select, insert, update, delete on %s' end, c.oid::regclass) from pg_class c
      where c.relnamespace = 'mserve'::regnamespace and c.relkind in ('r', 'p')
        and not c.relispartition and p_kind = 'scheduler'
    union all
    select format('execute on function %s', p.oid::regprocedure) from pg_proc p
      where p.pronamespace = 'mserve'::regnamespace and p_kind = 'scheduler'
        and p.proname !~ '^(give_rights|grant_|revoke_|secure|erase_)'
  loop
    execute format('grant %s to %I', v_what, p_role);
  end loop;
end $$;
comment on function mserve.give_rights is 'Gives a role the rights of its kind, and no others; null: none.';

-- What holds for all tables, views and functions, and for all roles that are known, also those that
-- came with later migrations: `mserve migrate` calls it at its end. What is so already is left alone,
-- for the locks' sake.
create function mserve.secure() returns void language plpgsql set lock_timeout = '3s' as $$
declare
  v_each record;
  v_roles text;
begin
  perform pg_advisory_xact_lock(x'6d7365727665'::bigint);
  revoke all on schema mserve from public;
  revoke all on all tables in schema mserve from public;
  revoke all on all functions in schema mserve from public;

  select string_agg(quote_ident(r.role), ', ' order by r.role) into v_roles
    from mserve.roles r join pg_roles g on g.rolname = r.role
    where r.kind in ('worker', 'scheduler');
  for v_each in
    select c.oid::regclass as name, c.relrowsecurity as is_on,
        (select string_agg(quote_ident(g.rolname), ', ' order by g.rolname)
          from pg_policy p join pg_roles g on g.oid = any(p.polroles)
          where p.polrelid = c.oid and p.polname = 'service') as roles
      from pg_class c
      where c.relnamespace = 'mserve'::regnamespace and c.relkind in ('r', 'p')
        and not c.relispartition
      order by c.relname
  loop
    if not v_each.is_on then
      execute format('alter table %s enable row level security', v_each.name);
    end if;
    if v_each.roles is distinct from v_roles then
      if v_each.roles is not null then
        execute format('drop policy service on %s', v_each.name);
      end if;
      if v_roles is not null then
        execute format('create policy service on %s to %s using (true) with check (true)',
          v_each.name, v_roles);
      end if;
    end if;
  end loop;

  for v_each in
    select c.oid::regclass as name from pg_class c
      where c.relnamespace = 'mserve'::regnamespace and c.relkind = 'v'
        and not coalesce('security_invoker=true' = any(c.reloptions), false)
  loop
    execute format('alter view %s set (security_invoker = true)', v_each.name);
  end loop;

  for v_each in
    select p.oid::regprocedure as name
      from pg_proc p join mserve.rights() r on r.object = p.proname and r.kind in ('tenant', 'definer')
        and r.verbs = 'execute'
      where p.pronamespace = 'mserve'::regnamespace and not p.prosecdef
  loop
    execute format('alter function %s security definer set search_path = pg_catalog, pg_temp',
      v_each.name);
  end loop;

  for v_each in
    select t.role, 'tenant' as kind from mserve.tenants t where t.role is not null
    union all select r.role, r.kind from mserve.roles r
  loop
    if exists (select from pg_roles where rolname = v_each.role) then
      perform mserve.give_rights(v_each.role, v_each.kind);
    end if;
  end loop;
end $$;
comment on function mserve.secure is 'Row-level security on, views with the rights of who reads them, nothing for everybody, and for each known role the rights of its kind.';

create function mserve.check_role(p_role text) returns void language plpgsql as $$
declare
  v_role pg_roles;
begin
  select * into v_role from pg_roles where rolname = p_role;
  if not found then
    raise exception 'there is no role %; make it first: create role % login', p_role,
      quote_ident(p_role) using errcode = 'MS004';
  elsif v_role.rolbypassrls or pg_has_role(p_role, (select nspowner from pg_namespace
      where nspname = 'mserve'), 'member') then
    raise exception 'the role % sees everything: it has the rights of the owner, or passes by policies',
      p_role using errcode = 'MS004';
  end if;
end $$;
comment on function mserve.check_role is 'Raises when there is no such role, or when no policy could hold it.';

-- Binds a login role to a tenant, which is made when it is not there.
create function mserve.grant_tenant(p_tenant text, p_role text, p_kind text default 'tenant')
returns void language plpgsql as $$
begin
  perform mserve.check_role(p_role);
  if exists (select from mserve.tenants t where t.role = p_role and t.tenant <> p_tenant)
      or exists (select from mserve.roles r where r.role = p_role
        and (r.tenant is distinct from p_tenant or r.kind <> p_kind)) then
    raise exception 'the role % is known already, as something else', p_role using errcode = 'MS004';
  end if;
  insert into mserve.tenants (tenant) values (p_tenant) on conflict (tenant) do nothing;
  update mserve.tenants t set role = p_role
    where t.tenant = p_tenant and t.role is null and p_kind = 'tenant';
  if not exists (select from mserve.tenants t where t.role = p_role) then
    insert into mserve.roles (role, kind, tenant) values (p_role, p_kind, p_tenant)
      on conflict (role) do nothing;
  elsif p_kind <> 'tenant' then
    raise exception 'the role % is known already, as something else', p_role using errcode = 'MS004';
  end if;
  perform mserve.give_rights(p_role, p_kind);
end $$;
comment on function mserve.grant_tenant is 'Binds a login role to a tenant, as `tenant` or `reader`.';

-- The policies of all tables name the roles that serve all tenants: while they are changed, each is
-- locked for a moment.
create function mserve.grant_service(p_role text, p_kind text) returns void language plpgsql as $$
begin
  perform mserve.check_role(p_role);
  if exists (select from mserve.tenants t where t.role = p_role)
      or exists (select from mserve.roles r where r.role = p_role and r.kind <> p_kind) then
    raise exception 'the role % is known already, as something else', p_role using errcode = 'MS004';
  end if;
  insert into mserve.roles (role, kind) values (p_role, p_kind) on conflict (role) do nothing;
  perform mserve.secure();
end $$;
comment on function mserve.grant_service is 'Lets a login role work for all tenants, as `worker` or `scheduler`.';

-- False: nobody knew it.
create function mserve.revoke_role(p_role text) returns boolean language plpgsql as $$
declare
  v_kind text;
begin
  select r.kind into v_kind from mserve.roles r where r.role = p_role;
  delete from mserve.roles r where r.role = p_role;
  update mserve.tenants t set role = null where t.role = p_role;
  if not found and v_kind is null then
    return false;
  end if;
  if exists (select from pg_roles where rolname = p_role) then
    perform mserve.give_rights(p_role, null);
  end if;
  if v_kind in ('worker', 'scheduler') then
    perform mserve.secure();
  end if;
  return true;
end $$;
comment on function mserve.revoke_role is 'Takes a role all its rights in this schema; false when it had none.';

-- Its roles have no rights any more; what it has stays for the books, and where there is nothing the
-- tenant goes as well.
create function mserve.remove_tenant(p_tenant text, out roles text[], out gone boolean)
language plpgsql as $$
begin
  perform from mserve.tenants t where t.tenant = p_tenant for update;
  if not found then
    return;
  end if;
  select coalesce(array_agg(r.role order by r.role), '{}') into roles from (
    select t.role from mserve.tenants t where t.tenant = p_tenant and t.role is not null
    union all select r.role from mserve.roles r where r.tenant = p_tenant) r;
  perform mserve.revoke_role(r) from unnest(roles) r;
  gone := p_tenant <> 'default'
    and not exists (select from mserve.jobs j where j.tenant = p_tenant)
    and not exists (select from mserve.blobs b where b.tenant = p_tenant)
    and not exists (select from mserve.webhook_endpoints e where e.tenant = p_tenant);
  if gone then
    delete from mserve.tenants t where t.tenant = p_tenant;
  end if;
end $$;
comment on function mserve.remove_tenant is 'Takes the rights of a tenant''s roles, and forgets a tenant that has nothing; roles is null when there is none.';

-- --------------------------------------------------------------------------------------- erasure ----
-- What a tenant sent and got goes; counts, tokens, time and cost stay, so that the books add up. Each
-- step can be repeated, and is by who goes on where somebody was killed: erase_open, until it tells of
-- no job any more; for each job erase_rows until null, then erase_job; erase_rest until it is done.

-- Its roles can do nothing from here on, and its jobs are asked to end; returns those that have not.
create function mserve.erase_open(p_tenant text) returns table (job uuid, state text)
language plpgsql as $$
#variable_conflict use_column
begin
  perform mserve.remove_tenant(p_tenant) where exists (
    select from mserve.tenants t where t.tenant = p_tenant and t.role is not null
    union all select from mserve.roles r where r.tenant = p_tenant);
  perform mserve.job_cancel(j.job) from mserve.jobs j
    where j.tenant = p_tenant and j.state in ('validating', 'in_progress');
  return query select j.job, j.state from mserve.jobs j
    where j.tenant = p_tenant and j.state in ('validating', 'in_progress', 'finalizing', 'cancelling')
    order by j.job;
end $$;
comment on function mserve.erase_open is 'Takes the rights of a tenant''s roles, asks for the end of its jobs, and returns those that have not ended.';

create function mserve.erase_rows(p_job uuid, p_after bigint, p_lines_max integer) returns bigint
language sql as $$
  with next as materialized (
    select r.line from mserve.results r where r.job = p_job and r.line > p_after
      order by r.line limit p_lines_max),
  gone as (
    update mserve.results r set custom_id = '', response = null,
        error = '{"code":"erased","message":"It was erased."}'
      from next n
      where r.job = p_job and r.line = n.line
        and (r.custom_id <> '' or r.response is not null
          or r.error::text is distinct from '{"code":"erased","message":"It was erased."}'))
  select max(n.line) from next n
$$;
comment on function mserve.erase_rows is 'Erases the bodies of so many rows behind a line; returns the last, null when there are no more.';

-- The key goes, too, so that the same file makes a new job; a job that has not ended is left alone.
create function mserve.erase_job(p_job uuid) returns boolean language plpgsql as $$
begin
  perform from mserve.jobs j where j.job = p_job
    and j.state in ('completed', 'failed', 'expired', 'cancelled') for update;
  if not found then
    return false;
  end if;
  update mserve.chunks set custom_ids = '', sha256 = '' where job = p_job;
  update mserve.checkpoints set state = '' where job = p_job;
  update mserve.dead_letters set custom_id = '', body = 'null' where job = p_job;
  delete from mserve.documents where job = p_job;
  update mserve.audit_log set detail = null where job = p_job and detail is not null;
  update mserve.jobs set idempotency_key = 'erased/' || mserve.hex(p_job), content_sha256 = '',
      input_name = '', metadata = null, error_message = null, series = null,
      erased_at = clock_timestamp()
    where job = p_job;
  return true;
end $$;
comment on function mserve.erase_job is 'Erases what a job holds beside its rows; false when it has not ended.';

-- In pieces: a body may be large.
create function mserve.erase_rest(p_tenant text, p_blobs_max integer) returns boolean
language plpgsql as $$
begin
  delete from mserve.blobs b where b.tenant = p_tenant and b.sha256 = any (array(
    select o.sha256 from mserve.blobs o where o.tenant = p_tenant order by o.sha256
      limit p_blobs_max));
  if found then
    return false;
  end if;
  delete from mserve.webhook_endpoints e where e.tenant = p_tenant;
  delete from mserve.webhook_events e where e.tenant = p_tenant;
  update mserve.tenants t set erased_at = clock_timestamp() where t.tenant = p_tenant;
  insert into mserve.audit_log (action, detail)
    values ('erase', json_build_object('tenant', p_tenant));
  return true;
end $$;
comment on function mserve.erase_rest is 'Erases what a tenant holds beside its jobs; false when there is more.';

-- ------------------------------------------------------------------------------------- from now on ----

-- A function that a later migration makes is nobody's until mserve.secure() has seen it: PostgreSQL
-- would let everybody call it. This holds for what this role makes in this database.
alter default privileges revoke execute on functions from public;

select mserve.secure();
