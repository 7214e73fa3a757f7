-- producer/doctor/doctor_work.c: jobs with chunks that the log has lost, a few; and how many there are.
select j.job, j.input_name, count(*), sum(c.lines - c.done_count)::bigint,
  count(*) over () as jobs
from mserve.chunks c join mserve.jobs j on j.job = c.job
where c.missing and not c.whole and j.state in ('in_progress', 'cancelling')
group by j.job, j.input_name order by j.job limit 5;
