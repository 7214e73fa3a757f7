-- work.c, work_open: open chunks of the partitions held, a few of each job, so that nothing waits
-- behind a long job. $1 topic, $2 partitions, $3 and $4 jobs and chunks in hand, $5 chunks of a job in
-- a partition, $6 jobs of a tenant (the oldest half and the newest half of its highest priority, so
-- that neither many old jobs hide a new one nor many new ones an old one), $7 only chunks with a
-- wish; a job that is held has none without. At most 16 * $6 jobs of a tenant are looked at.
with hand as (
  select u.job, array_agg(u.chunk) as chunks from unnest($3::uuid[], $4::integer[]) u (job, chunk)
    group by u.job),
ranked as (
  select j.job, j.tenant, j.endpoint, j.priority, j.created_at, j.wish,
      row_number() over (partition by j.tenant order by j.priority desc, j.job) as old,
      row_number() over (partition by j.tenant order by j.priority desc, j.job desc) as new
    from mserve.jobs j
    where j.topic = $1 and j.state in ('in_progress', 'cancelling')
      and (j.wish is not null or not $7 and j.hold is null)),
found as (
  select j.job, j.tenant, j.endpoint, j.priority, j.created_at, j.wish, c.*,
      dense_rank() over (partition by j.tenant order by j.priority desc, j.job) as old,
      dense_rank() over (partition by j.tenant order by j.priority desc, j.job desc) as new
    from ranked j left join hand h on h.job = j.job
    cross join unnest($2::integer[]) p (part)
    cross join lateral (
      select c.chunk, c.part, c.first_line, c.lines, c.done_count, c.done_map, c.first_offset,
          c.last_offset, c.bytes, c.work, c.custom_ids, c.suspect
        from mserve.chunks c
        where c.topic = $1 and c.part = p.part and c.job = j.job and not c.whole
          and (not c.missing or j.wish is not null) and c.chunk <> all (coalesce(h.chunks, '{}'))
        order by c.chunk limit $5) c
    where j.old <= 8 * $6::bigint or j.new <= 8 * $6::bigint)
select job, chunk, part, first_line, lines, done_count, done_map, first_offset, last_offset, bytes,
  work, tenant, endpoint, priority, created_at, wish,
  case when wish is not null then custom_ids end as custom_ids, suspect
from found where old <= ($6 + 1) / 2 or new <= $6 / 2
order by tenant, priority desc, job, chunk;
