-- sql/webhook.c, webhook_replay: $1 an endpoint, or $2 an event, null the other; $3 only what was given
-- up or dropped; $4 ms since which the events happened, null: ever. Owed again, under the same id with
-- the same body, by a schedule that begins anew; what is owed anyway stays as it is. Returns how many.
with again as (
  update mserve.webhook_deliveries d
    set state = 'pending', attempts = 0, due_at = clock_timestamp(), ended_at = null,
      lease_until = null, token = null
    from mserve.webhook_endpoints e, mserve.webhook_events v
    where e.endpoint = d.endpoint and v.event = d.event and e.tenant = mserve.current_tenant()
      and e.state = 'enabled' and d.state <> 'pending'
      and ($1::uuid is null or d.endpoint = $1) and ($2::uuid is null or d.event = $2)
      and (not $3 or d.state in ('failed', 'dropped'))
      and ($4::bigint is null or v.created_at >= clock_timestamp() - $4 * interval '1 ms')
    returning 1)
select count(*), case when count(*) > 0 then pg_notify('mserve_webhooks', '')::text end from again;
