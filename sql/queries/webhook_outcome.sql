-- sql/webhook.c, webhook_outcome: $1 endpoint, $2 event: what came of the last attempt, if there was one.
select d.state, a.outcome, a.status_code, a.why, a.took_ms, a.retry_ms
  from mserve.webhook_deliveries d
    left join lateral (select * from mserve.webhook_attempts a
      where a.endpoint = d.endpoint and a.event = d.event order by a.attempt desc limit 1) a on true
  where d.endpoint = $1 and d.event = $2;
