-- producer/commands/command_webhook_log.c: $1 event: to how many endpoints of this tenant it is or was owed, and how
-- many of these are disabled.
select count(*), count(*) filter (where e.state = 'disabled'),
  count(*) filter (where d.state = 'pending')
from mserve.webhook_deliveries d join mserve.webhook_endpoints e on e.endpoint = d.endpoint
  where d.event = $1 and e.tenant = mserve.current_tenant();
