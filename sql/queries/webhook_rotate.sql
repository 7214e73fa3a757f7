-- sql/webhook.c, webhook_rotate: $1 endpoint, $2 its new secret, sealed, $3 ms for which the old one
-- signs too; 0: it ends at once.
update mserve.webhook_endpoints
set old_secret = case when $3::bigint > 0 then secret end,
  old_until = case when $3 > 0 then clock_timestamp() + $3 * interval '1 ms' end, secret = $2
where endpoint = $1 and tenant = mserve.current_tenant();
