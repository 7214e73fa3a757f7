-- producer/doctor/doctor_work.c: $1 topic. Jobs that wait or run, partitions, those that nobody holds, and
-- those of them in which work waits.
with free as (select part from mserve.partitions where topic = $1 and owner is null)
select (select count(*) from mserve.jobs
    where topic = $1 and state in ('in_progress', 'cancelling')),
  (select count(*) from mserve.partitions where topic = $1),
  (select count(*) from free),
  (select count(*) from free f where exists (
    select from mserve.jobs j
    where j.topic = $1 and j.state in ('in_progress', 'cancelling')
      and exists (select from mserve.chunks c
        where c.topic = $1 and c.part = f.part and c.job = j.job and not c.whole
          and not c.missing)));
