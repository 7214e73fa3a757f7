-- job.c, job_add_chunks: $1 job, then arrays: $2 chunk, $3 first line, $4 lines, $5 partition,
-- $6 first and $7 last offset, $8 bytes, $9 sha256, $10 custom_ids, $11 work.
select mserve.job_add_chunks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
