-- sql/webhook.c, webhook_enable: $1 endpoint.
select mserve.webhook_enable($1);
