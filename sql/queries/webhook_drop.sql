-- outbox.c, outbox_drop: $1 how many at most.
select mserve.webhook_drop($1);
