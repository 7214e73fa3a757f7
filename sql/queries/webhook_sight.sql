-- outbox.c, outbox_look, for the metrics: deliveries pending, counted up to 100,000; ms since the one
-- that waits longest was due; enabled endpoints that rest, and disabled ones.
select (select count(*) from (select from mserve.webhook_deliveries where state = 'pending'
          limit 100000) pending),
  coalesce((select greatest(0, floor(extract(epoch from clock_timestamp() - min(due_at)) * 1000))
    from mserve.webhook_endpoints e cross join lateral (
      select d.due_at from mserve.webhook_deliveries d
        where d.endpoint = e.endpoint and d.state = 'pending' order by d.due_at limit 1) first), 0)::bigint,
  (select count(*) from mserve.webhook_endpoints
    where state = 'enabled' and rest_until > clock_timestamp()),
  (select count(*) from mserve.webhook_endpoints where state = 'disabled');
