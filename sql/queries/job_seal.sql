-- job.c, job_seal: $1 job, $2 chunks, $3 lines, $4 blank lines.
select mserve.job_seal($1, $2, $3, $4);
