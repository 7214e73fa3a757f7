-- job.c, job_open: $1 key, $2 content sha256, $3 input name, $4 endpoint, $5 tier, $6 model,
-- $7 topic, $8 partitions, $9 lines and $10 bytes of a chunk, $11 window in words and $12 in ms,
-- $13 metadata, $14 priority.
select job, made from mserve.job_open($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);
