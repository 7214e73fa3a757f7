-- outbox.c, outbox_claim: $1 how many at most, $2 lease in ms, $3 token, $4 the endpoint behind which to
-- begin, $5 failures after which an endpoint gets one at a time, $6 whether failing endpoints too.
select endpoint, event, attempts, url, secret, old_secret, failures, failing_ms, body
  from mserve.webhook_claim($1, $2, $3, $4, $5, $6);
