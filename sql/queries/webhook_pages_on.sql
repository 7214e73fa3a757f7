-- sql/webhook.c: $1 an endpoint that was added or enabled.
select mserve.webhook_pages_on($1);
