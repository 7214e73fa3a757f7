-- job.c, job_heard: $1 job.
select mserve.job_heard($1);
