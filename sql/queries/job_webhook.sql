-- sql/webhook.c, webhook_of_job: $1 job, $2 the endpoint that is to hear of it. A job that is sealed keeps
-- the one it has; returns whether it has this one now, and the name of the one it has.
with changed as (
  update mserve.jobs j set webhook = $2
    where j.job = $1 and j.tenant = mserve.current_tenant() and j.state = 'validating'
    returning j.webhook)
select coalesce((select true from changed), j.webhook is not distinct from $2), e.name
from mserve.jobs j left join mserve.webhook_endpoints e on e.endpoint = j.webhook
  where j.job = $1 and j.tenant = mserve.current_tenant();
