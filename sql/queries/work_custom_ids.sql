-- work.c, work_custom_ids: $1 job, $2 chunk.
select custom_ids from mserve.chunks where job = $1 and chunk = $2;
