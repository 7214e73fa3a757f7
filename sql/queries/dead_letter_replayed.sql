-- producer/command_dead.c, replay: $1 job, $2 line, $3 the key of the job that was made of it.
update mserve.dead_letters d set replayed_as = j.job
  from mserve.jobs j
  where d.tenant = mserve.current_tenant() and d.job = $1 and d.line = $2
    and j.tenant = d.tenant and j.idempotency_key = $3;
