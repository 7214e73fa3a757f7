-- sql/webhook.c, webhook_rotate: $1 endpoint, $2 its new secret, sealed, $3 ms for which the old one
-- signs too; 0: it ends at once.
select mserve.webhook_rotate($1, $2, $3);
