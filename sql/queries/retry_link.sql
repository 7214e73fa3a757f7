-- retry.c, retry_link: $1 the retry, $2 the job that it repeats, $3 statuses, $4 lines that are left out,
-- $5 behind which line, $6 how many are linked, $7 how many now.
select l.last, l.done
from mserve.job_link_retry($1, $2, string_to_array($3, ','), $4, $5, $6, $7) l;
