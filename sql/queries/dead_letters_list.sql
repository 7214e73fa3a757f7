-- producer/commands/command_dead.c, list: $1 a job or null, $2 how many, from new to old.
select d.job, d.line, d.custom_id, d.at, json_array_length(d.deaths),
    d.deaths -> (json_array_length(d.deaths) - 1) ->> 'why', d.replayed_as,
    json_build_object('job', 'batch_' || mserve.hex(d.job), 'line', d.line, 'custom_id', d.custom_id,
      'at', mserve.unix_time(d.at), 'replayed_as', 'batch_' || mserve.hex(d.replayed_as),
      'deaths', d.deaths)
  from mserve.dead_letters d
  where d.tenant = mserve.current_tenant() and ($1::uuid is null or d.job = $1)
  order by d.at desc, d.job, d.line limit $2;
