-- sql/webhook.c, webhook_disable: $1 endpoint.
select mserve.webhook_disable(endpoint, 'asked') from mserve.webhook_endpoints
  where endpoint = $1 and tenant = mserve.current_tenant();
