-- sql/webhook.c, webhook_add: $1 endpoint, $2 name, $3 URL, $4 types of event or null, $5 every job,
-- $6 its secret, sealed.
insert into mserve.webhook_endpoints (endpoint, name, url, events, every_job, secret)
values ($1, $2, $3, coalesce($4::text[],
  '{batch.completed,batch.failed,batch.expired,batch.cancelled}'), $5, $6);
