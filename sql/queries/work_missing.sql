-- work.c, work_mark_missing: $1 worker, $2 topic, then arrays: $3 partition, $4 epoch, $5 token of its
-- claim, $6 job, $7 chunk, $8 first and $9 last offset as they were read.
select job, chunk from mserve.mark_missing($1, $2, $3, $4, $5, $6, $7, $8, $9);
