-- work.c, work_wishes: what the users wish of these jobs, in the order asked. $1 jobs.
select coalesce(j.wish, case when j.state <> 'in_progress' or j.job is null then 'cancel'
    when j.hold is not null then 'hold' else 'run' end)
from unnest($1::uuid[]) with ordinality u (job, place) left join mserve.jobs j on j.job = u.job
order by u.place;
