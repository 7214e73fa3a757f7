-- producer/commands/command_webhook.c, list and show: $1 a name, or null for all.
with owed as (
  select d.endpoint, count(*) as n from mserve.webhook_deliveries d where d.state = 'pending'
    group by d.endpoint)
select e.name, e.url, e.state, e.disabled_why, e.every_job, array_to_string(e.events, ','),
  coalesce(o.n, 0)::bigint, e.delivered_at, e.failures, e.failing_since,
  case when e.old_until > clock_timestamp() then e.old_until end,
  json_build_object('id', e.endpoint, 'name', e.name, 'url', e.url, 'events', e.events,
    'every_job', e.every_job, 'state', e.state, 'disabled_at', mserve.unix_time(e.disabled_at),
    'disabled_why', e.disabled_why, 'owed', coalesce(o.n, 0), 'failures', e.failures,
    'failing_since', mserve.unix_time(e.failing_since),
    'rests_until', mserve.unix_time(case when e.rest_until > clock_timestamp() then e.rest_until end),
    'delivered_at', mserve.unix_time(e.delivered_at),
    'old_secret_until', mserve.unix_time(
      case when e.old_until > clock_timestamp() then e.old_until end),
    'created_at', mserve.unix_time(e.created_at))::text
from mserve.webhook_endpoints e left join owed o on o.endpoint = e.endpoint
where e.tenant = mserve.current_tenant() and ($1::text is null or e.name = $1)
order by e.name;
