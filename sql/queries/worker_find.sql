-- producer/commands/command_worker.c: workers that live and are called so, or whose id begins so. $1 as typed,
-- $2 its digits, or null when it is no beginning of an id.
select worker, name, host from mserve.workers
where closed_at is null and device <> 'none'
  and (name = $1 or ($2::text is not null and starts_with(replace(worker::text, '-', ''), $2)))
order by worker limit 6;
