-- sql/webhook.c, webhook_replay: $1 an endpoint, or $2 an event, null the other; $3 only what was given
-- up or dropped; $4 ms since which the events happened, null: ever. Returns how many.
select mserve.webhook_replay($1, $2, $3, $4);
