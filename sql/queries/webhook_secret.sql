-- sql/webhook.c, webhook_secret: $1 endpoint.
select secret from mserve.webhook_endpoints where endpoint = $1 and tenant = mserve.current_tenant();
