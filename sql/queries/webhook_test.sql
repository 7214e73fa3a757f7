-- sql/webhook.c, webhook_test: $1 endpoint. An event of no job, owed to it alone; returns its id.
with event as (
  insert into mserve.webhook_events (event, tenant, type, detail)
    select mserve.uuid7(), e.tenant, 'webhook.test', json_build_object('id', e.endpoint,
        'object', 'webhook_endpoint', 'name', e.name,
        'message', 'This is a test; nothing has happened.')
      from mserve.webhook_endpoints e
      where e.endpoint = $1 and e.tenant = mserve.current_tenant()
    returning event),
told as (
  insert into mserve.webhook_deliveries (endpoint, event) select $1, v.event from event v)
select v.event, pg_notify('mserve_webhooks', '')::text from event v;
