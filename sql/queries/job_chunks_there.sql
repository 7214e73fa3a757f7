-- job.c, job_chunks_there: $1 job.
select chunk from mserve.chunks where job = $1 and not missing order by chunk;
