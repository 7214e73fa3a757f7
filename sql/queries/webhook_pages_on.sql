-- sql/webhook.c: $1 an endpoint that was added or enabled: jobs under way tell of their rows from now on,
-- if it wants that. Locked in the order in which the fold locks them.
with wanted as (
  select j.job from mserve.webhook_endpoints e join mserve.jobs j on j.tenant = e.tenant
    where e.endpoint = $1 and e.state = 'enabled' and 'request.completed' = any(e.events)
      and (e.every_job or j.webhook = e.endpoint)
      and j.state in ('in_progress', 'cancelling') and not j.pages
    order by j.job for no key update of j)
update mserve.jobs j set pages = true from wanted w where j.job = w.job;
