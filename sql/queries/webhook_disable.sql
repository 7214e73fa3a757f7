-- sql/webhook.c, webhook_disable: $1 endpoint.
select mserve.webhook_disable_mine($1);
