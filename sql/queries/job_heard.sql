-- job.c, job_heard: $1 job.
update mserve.jobs set heard_at = clock_timestamp() where job = $1 and state = 'validating';
