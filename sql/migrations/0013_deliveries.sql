-- 0013_deliveries.sql: claiming what is owed, and writing down what came of it.
--
-- A delivery that is pending is due when due_at has passed. A claim moves due_at to the end of its
-- lease, so whoever dies with a delivery makes it due again by doing nothing. What an attempt came to
-- is known by the token of its claim: told twice it counts once, told too late it changes nothing,
-- except that a success is a success.
--
-- The tables are empty one minute and full the next, and statistics tell of neither; so the functions say
-- how they are to be planned: by index, from endpoint to endpoint. An index on due_at alone would be worse
-- than none: the planner would look for one endpoint's next delivery among a million of another's.

create index webhook_deliveries_leased on mserve.webhook_deliveries (endpoint, lease_until)
  where lease_until is not null;
create index webhook_endpoints_disabled on mserve.webhook_endpoints (endpoint)
  where state = 'disabled';
create index webhook_endpoints_resting on mserve.webhook_endpoints (rest_until)
  where state = 'enabled';

comment on column mserve.webhook_deliveries.attempts is 'How many have ended; one that was begun by a sender that died is not among them.';
comment on column mserve.webhook_deliveries.due_at is 'Not before; while a sender has it, the end of its lease.';

alter table mserve.webhook_attempts add column token bigint not null;
alter table mserve.webhook_attempts
  add constraint webhook_attempts_told_once unique (endpoint, event, token);
comment on column mserve.webhook_attempts.token is 'Of the claim under which it was made.';

-- The endpoints, from p_after on, to which something is due and may be sent; they are locked. At most 4
-- deliveries to an endpoint are under way at a time, and one where a probe is to show whether it is well
-- again. What a locked one is owed, and how much room it has, is looked at in a later statement, which
-- sees what whoever held the lock before has committed.
create function mserve.webhook_ready(p_limit integer, p_after uuid, p_upto uuid, p_break_after integer,
  p_failing boolean, p_now timestamptz) returns uuid[] language plpgsql
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
  set jit = off set plan_cache_mode = force_generic_plan as $$
begin
  return (select coalesce(array_agg(r.endpoint), '{}') from (
    select e.endpoint from mserve.webhook_endpoints e
        cross join lateral (select from mserve.webhook_deliveries d
          where d.endpoint = e.endpoint and d.state = 'pending' and d.due_at <= p_now
          order by d.due_at limit 1) due
        cross join lateral (select count(*) as count from mserve.webhook_deliveries d
          where d.endpoint = e.endpoint and d.lease_until > p_now) leased
      where e.endpoint > p_after and e.endpoint <= p_upto and e.state = 'enabled'
        and e.rest_until <= p_now and (p_failing or e.failures = 0)
        and leased.count < case when e.failures >= p_break_after then 1 else 4 end
      order by e.endpoint limit p_limit for no key update of e skip locked) r);
end $$;
comment on function mserve.webhook_ready is 'Locks and returns endpoints to which something is due.';

-- At most p_limit deliveries, one of each endpoint before a second one of any, from the endpoint behind
-- p_after on, round and round. Without p_failing, of endpoints alone whose last attempt went well.
-- In the order in which the next claim goes on: its p_after is the endpoint of the last row.
create function mserve.webhook_claim(p_limit integer, p_lease_ms bigint, p_token bigint, p_after uuid,
  p_break_after integer, p_failing boolean)
returns table (endpoint uuid, event uuid, attempts integer, url text, secret bytea, old_secret bytea,
  failures integer, failing_ms bigint, body text) language plpgsql
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_until timestamptz := v_now + p_lease_ms * interval '1 ms';
  v_ready uuid[];
  v_each integer;
  v_endpoints uuid[];
  v_events uuid[];
  v_bare uuid[];
begin
  v_ready := mserve.webhook_ready(p_limit, p_after, 'ffffffff-ffff-ffff-ffff-ffffffffffff',
    p_break_after, p_failing, v_now);
  if cardinality(v_ready) < p_limit then
    v_ready := v_ready || mserve.webhook_ready(p_limit - cardinality(v_ready),
      '00000000-0000-0000-0000-000000000000', p_after, p_break_after, p_failing, v_now);
  end if;
  if cardinality(v_ready) = 0 then
    return;
  end if;
  v_each := p_limit / cardinality(v_ready);
  select array_agg(e.endpoint), array_agg(o.event) into v_endpoints, v_events
    from unnest(v_ready) r (endpoint)
      join mserve.webhook_endpoints e on e.endpoint = r.endpoint
      cross join lateral (select count(*) as count from mserve.webhook_deliveries d
        where d.endpoint = e.endpoint and d.lease_until > v_now) leased
      cross join lateral (
        select d.event from mserve.webhook_deliveries d
          where d.endpoint = e.endpoint and d.state = 'pending' and d.due_at <= v_now
          order by d.due_at
          limit greatest(0, least(v_each,
            case when e.failures >= p_break_after then 1 else 4 end - leased.count))
          for no key update skip locked) o;
  update mserve.webhook_deliveries d set token = p_token, lease_until = v_until, due_at = v_until
    from unnest(v_endpoints, v_events) u (endpoint, event)
    where d.endpoint = u.endpoint and d.event = u.event;
  select array_agg(distinct v.event) into v_bare from mserve.webhook_events v
    where v.event = any(v_events) and v.body is null;
  if v_bare is not null then
    perform mserve.webhook_compose(v_bare);
  end if;
  return query
    select e.endpoint, d.event, d.attempts, e.url, e.secret,
        case when e.old_until > v_now then e.old_secret end, e.failures,
        coalesce(floor(extract(epoch from v_now - e.failing_since) * 1000), 0)::bigint, v.body
      from unnest(v_endpoints, v_events) u (endpoint, event)
        join mserve.webhook_deliveries d on d.endpoint = u.endpoint and d.event = u.event
        join mserve.webhook_endpoints e on e.endpoint = u.endpoint
        join mserve.webhook_events v on v.event = u.event
      where v.body is not null
      order by e.endpoint <= p_after, e.endpoint;
end $$;
comment on function mserve.webhook_claim is 'Leases deliveries that are due to a sender, fairly over endpoints, and returns what to send.';

-- A disabled endpoint gets nothing more. What it was still owed is dropped by webhook_drop(), piece by
-- piece: it may be a million rows. Returns false when it was disabled already.
create function mserve.webhook_disable(p_endpoint uuid, p_why text) returns boolean
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_end mserve.webhook_endpoints;
  v_event uuid;
begin
  update mserve.webhook_endpoints e set state = 'disabled', disabled_at = v_now, disabled_why = p_why
    where e.endpoint = p_endpoint and e.state = 'enabled' returning * into v_end;
  if not found then
    return false;
  end if;
  perform mserve.webhook_drop(1000);
  v_event := mserve.event_id(p_endpoint, 'webhook.disabled',
    floor(extract(epoch from v_now) * 1000000)::bigint);
  with others as (
    select o.endpoint from mserve.webhook_endpoints o
      where o.tenant = v_end.tenant and o.endpoint <> p_endpoint and o.state = 'enabled'
        and 'webhook.disabled' = any(o.events)),
  told as (
    insert into mserve.webhook_events (event, tenant, type, body, created_at)
      select v_event, v_end.tenant, 'webhook.disabled', json_build_object(
          'id', 'evt_' || mserve.hex(v_event), 'object', 'event',
          'created_at', mserve.unix_time(v_now), 'type', 'webhook.disabled',
          'data', json_build_object('id', p_endpoint, 'object', 'webhook_endpoint',
            'name', v_end.name, 'why', p_why, 'failures', v_end.failures,
            'failing_since', mserve.unix_time(v_end.failing_since)))::text, v_now
        where exists (select from others))
  insert into mserve.webhook_deliveries (endpoint, event) select o.endpoint, v_event from others o;
  if found then
    perform pg_notify('mserve_webhooks', '');
  end if;
  return true;
end $$;
comment on function mserve.webhook_disable is 'Disables an endpoint, and tells those of the tenant''s other endpoints that want to know; why is gone, failing or asked.';

create function mserve.webhook_drop(p_limit integer) returns bigint language sql as $$
  with owed as (
    select o.endpoint, o.event from mserve.webhook_endpoints e
        cross join lateral (
          select d.endpoint, d.event from mserve.webhook_deliveries d
            where d.endpoint = e.endpoint and d.state = 'pending'
            order by d.due_at limit p_limit for no key update skip locked) o
      where e.state = 'disabled' limit p_limit),
  dropped as (
    update mserve.webhook_deliveries d
      set state = 'dropped', ended_at = clock_timestamp(), lease_until = null, token = null
      from owed o where d.endpoint = o.endpoint and d.event = o.event
      returning 1)
  select count(*) from dropped
$$;
comment on function mserve.webhook_drop is 'Drops up to so many deliveries that disabled endpoints were still owed; returns how many.';

-- What attempts came to, each told at most once in one call. The outcome `released` is none: the
-- delivery is due again after retry_ms, and nothing was tried. All times count from the end of the
-- attempt, age_ms ago. Returns endpoints that this disabled.
create function mserve.webhook_record(p_endpoints uuid[], p_events uuid[], p_tokens bigint[],
  p_outcomes text[], p_statuses integer[], p_whys text[], p_took_ms integer[], p_ages_ms bigint[],
  p_retry_ms bigint[], p_rest_ms bigint[], p_disabled text[])
returns table (endpoint uuid, why text) language plpgsql
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
  set enable_hashjoin = off set enable_mergejoin = off
  set jit = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  v_now timestamptz := clock_timestamp();
  v_ended record;
begin
  -- Claims and records of an endpoint wait for each other here; that guards its deliveries too.
  perform from mserve.webhook_endpoints e where e.endpoint = any(p_endpoints)
    order by e.endpoint for no key update;
  for v_ended in
    with given as (
      select u.*, d.token is not distinct from u.token and d.state = 'pending' as is_mine,
          u.outcome = 'disabled' and u.disabled = 'failing' and e.failing_since is null as is_well
        from unnest(p_endpoints, p_events, p_tokens, p_outcomes, p_statuses, p_whys, p_took_ms,
                    p_ages_ms, p_retry_ms, p_rest_ms, p_disabled)
            u (endpoint, event, token, outcome, status_code, why, took_ms, age_ms, retry_ms, rest_ms,
               disabled)
          join mserve.webhook_deliveries d on d.endpoint = u.endpoint and d.event = u.event
          join mserve.webhook_endpoints e on e.endpoint = u.endpoint),
    judged as ( -- one that succeeded meanwhile is not disabled for failing
      select g.endpoint, g.event, g.token, g.status_code, g.why, g.took_ms, g.age_ms, g.rest_ms,
          g.is_mine, case when g.is_well then 'retried' else g.outcome end as outcome,
          case when g.is_well then 60000 else g.retry_ms end as retry_ms,
          case when not g.is_well then g.disabled end as disabled
        from given g),
    logged as (
      insert into mserve.webhook_attempts (endpoint, event, token, attempt, at, took_ms, outcome,
          status_code, why, retry_ms)
        select j.endpoint, j.event, j.token,
            1 + coalesce((select max(a.attempt) from mserve.webhook_attempts a
                          where a.endpoint = j.endpoint and a.event = j.event), 0),
            v_now - j.age_ms * interval '1 ms', j.took_ms, j.outcome,
            nullif(j.status_code, 0), j.why,
            case when j.outcome = 'retried' then j.retry_ms end
          from judged j where j.outcome <> 'released'
        on conflict (endpoint, event, token) do nothing
        returning endpoint, event),
    counted as (
      select j.* from judged j
        where (j.is_mine or j.outcome = 'delivered')
          and (j.outcome = 'released' or exists (select from logged l
            where l.endpoint = j.endpoint and l.event = j.event))),
    moved as (
      update mserve.webhook_deliveries d
        set state = case c.outcome when 'delivered' then 'delivered' when 'failed' then 'failed'
              when 'disabled' then 'dropped' else d.state end,
          ended_at = case when c.outcome in ('delivered', 'failed', 'disabled')
              then v_now - c.age_ms * interval '1 ms' end,
          attempts = d.attempts + (c.outcome <> 'released')::integer,
          due_at = v_now + (c.retry_ms - c.age_ms) * interval '1 ms',
          lease_until = null, token = null
        from counted c where d.endpoint = c.endpoint and d.event = c.event),
    health as (
      update mserve.webhook_endpoints e
        set failures = case when h.good > 0 then 0 else e.failures + h.bad end,
          failing_since = case when h.good = 0 then coalesce(e.failing_since, h.since) end,
          delivered_at = case when h.good > 0 then v_now else e.delivered_at end,
          rest_until = greatest(e.rest_until, v_now + h.rest_ms * interval '1 ms')
        from (select c.endpoint, count(*) filter (where c.outcome = 'delivered') as good,
                count(*) filter (where c.outcome <> 'delivered')::integer as bad,
                min(v_now - c.age_ms * interval '1 ms') as since,
                coalesce(max(c.rest_ms - c.age_ms) filter (where c.rest_ms > 0), 0) as rest_ms
              from counted c where c.outcome <> 'released' group by c.endpoint) h
        where e.endpoint = h.endpoint)
    select c.endpoint as endpoint, min(c.disabled) as why from counted c
      where c.outcome = 'disabled' group by c.endpoint order by c.endpoint
  loop
    if mserve.webhook_disable(v_ended.endpoint, v_ended.why) then
      endpoint := v_ended.endpoint;
      why := v_ended.why;
      return next;
    end if;
  end loop;
end $$;
comment on function mserve.webhook_record is 'Writes down what attempts came to: for the log, the delivery and the health of the endpoint; returns endpoints that it disabled.';
