-- sql/webhook.c, webhook_add: $1 endpoint, $2 name, $3 URL, $4 types of event or null, $5 every job,
-- $6 its secret, sealed.
select mserve.webhook_add($1, $2, $3, $4, $5, $6);
