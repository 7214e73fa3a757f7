-- sql/webhook.c, webhook_enable: $1 endpoint. What it failed before counts no more.
update mserve.webhook_endpoints
set state = 'enabled', disabled_at = null, disabled_why = null, failing_since = null, failures = 0,
  rest_until = '-infinity'
where endpoint = $1 and tenant = mserve.current_tenant() and state = 'disabled';
