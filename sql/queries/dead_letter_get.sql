-- producer/commands/command_dead.c, show and replay: $1 job, $2 line.
select d.custom_id, d.body, j.endpoint, j.tier, j.completion_window,
    json_build_object('job', 'batch_' || mserve.hex(d.job), 'line', d.line, 'custom_id', d.custom_id,
      'at', mserve.unix_time(d.at), 'endpoint', j.endpoint,
      'replayed_as', 'batch_' || mserve.hex(d.replayed_as), 'deaths', d.deaths, 'body', d.body)
  from mserve.dead_letters d join mserve.jobs j on j.job = d.job
  where d.tenant = mserve.current_tenant() and d.job = $1 and d.line = $2;
