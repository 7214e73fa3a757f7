-- sql/webhook.c, webhook_find: $1 a name, $2 a URL as it is stored, or null.
select endpoint, name, state = 'enabled'
  from mserve.webhook_endpoints
  where tenant = mserve.current_tenant() and (name = $1 or url = $2)
  order by name = $1 desc, state = 'enabled' desc, created_at limit 1;
