-- sql/webhook.c, webhook_test: $1 endpoint; returns the id of the event.
select event from mserve.webhook_test($1) t (event);
