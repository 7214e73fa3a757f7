-- scheduler/sweep.c: partitions that nobody holds and in which lines wait for their cancelled or
-- expired row. $1 how many at most.
select p.topic, p.part from mserve.partitions p
where p.owner is null and exists (
  select from mserve.jobs j
  where j.topic = p.topic and j.state in ('in_progress', 'cancelling') and j.wish is not null
    and exists (select from mserve.chunks c
                where c.topic = p.topic and c.part = p.part and c.job = j.job and not c.whole))
order by p.topic, p.part limit $1;
