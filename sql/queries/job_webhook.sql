-- sql/webhook.c, webhook_of_job: $1 job, $2 the endpoint that is to hear of it. A job that is sealed keeps
-- the one it has; returns whether it has this one now, and the name of the one it has.
select is_set, name from mserve.webhook_of_job($1, $2);
