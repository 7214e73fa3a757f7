-- producer/commands/command_worker.c: the fleet, from old to new; the schedulers, which have no device, are not
-- of it. $1 whether those that are gone are wanted too.
with fleet as (
  select w.*, greatest(0, extract(epoch from w.lease_until - clock_timestamp())) as lease_left_s,
      (select string_agg(regexp_replace(t, '^.*\.requests\.', ''), ',') from unnest(w.topics) t)
        as tiers,
      (select count(*) from mserve.partitions p where p.owner = w.worker) as partitions,
      (select count(*) from (select j::uuid from json_object_keys(w.wip_jobs) j union
          select c.job from mserve.checkpoints c where c.worker = w.worker) begun) as jobs,
      case when w.closed_at is not null then 'gone'
        when w.lease_until < clock_timestamp() then 'silent'
        when w.draining then 'draining'
        when w.leave_by is not null then 'asked to leave'
        else 'working' end as state
    from mserve.workers w where w.device <> 'none' and ($1 or w.closed_at is null))
select f.worker, f.name, f.host, f.tiers, f.state,
  f.drain_by, f.drain_why, f.partitions, coalesce(f.jobs, 0)::bigint,
  floor(f.lease_left_s)::bigint, f.registered_at, f.capacity,
  trim_scale(f.price_per_hour)::text || ' ' || f.currency, f.closed_why,
  json_build_object('id', f.worker, 'name', f.name, 'host', f.host, 'pid', f.pid, 'tiers', f.tiers,
    'topics', f.topics, 'device', f.device, 'model', f.model, 'state', f.state,
    'drain_by', f.drain_by, 'drain_why', f.drain_why, 'asked_to_leave_by', f.leave_by,
    'partitions', f.partitions, 'jobs', coalesce(f.jobs, 0), 'running', f.running,
    'lease_left_s', round(f.lease_left_s, 3), 'registered_at', f.registered_at,
    'capacity', f.capacity, 'price_per_hour', f.price_per_hour, 'currency', f.currency,
    'closed_at', f.closed_at, 'closed_why', f.closed_why)::text
from fleet f order by f.worker;
