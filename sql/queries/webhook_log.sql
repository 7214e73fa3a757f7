-- producer/commands/command_webhook_log.c, log: $1 an endpoint or null, $2 how many, $3 only what did not succeed.
-- From new to old: attempts that ended, and deliveries that are due.
with attempts as (
  select a.at, a.endpoint, a.event, a.attempt, a.outcome, a.status_code, a.took_ms, a.why, a.retry_ms
    from mserve.webhook_attempts a join mserve.webhook_endpoints e on e.endpoint = a.endpoint
    where e.tenant = mserve.current_tenant() and ($1::uuid is null or a.endpoint = $1)
      and (not $3 or a.outcome <> 'delivered')
    order by a.at desc limit $2),
due as (
  select d.due_at, d.endpoint, d.event, null::integer, 'pending', null::integer, null::integer,
      null, null::bigint
    from mserve.webhook_deliveries d join mserve.webhook_endpoints e on e.endpoint = d.endpoint
    where e.tenant = mserve.current_tenant() and ($1::uuid is null or d.endpoint = $1)
      and d.state = 'pending'
    order by d.due_at desc limit $2)
select l.at, e.name, 'evt_' || mserve.hex(l.event), v.type, 'batch_' || mserve.hex(v.job), l.attempt,
  l.outcome, l.status_code, l.took_ms, l.why, l.retry_ms,
  json_build_object('at', mserve.unix_time(l.at), 'endpoint', e.name,
    'event', 'evt_' || mserve.hex(l.event), 'type', v.type, 'job', 'batch_' || mserve.hex(v.job),
    'attempt', l.attempt, 'outcome', l.outcome, 'status_code', l.status_code,
    'took_ms', l.took_ms, 'why', l.why, 'retry_ms', l.retry_ms)::text
from (select * from attempts union all select * from due) l
  join mserve.webhook_endpoints e on e.endpoint = l.endpoint
  join mserve.webhook_events v on v.event = l.event
order by l.at desc, l.event limit $2;
