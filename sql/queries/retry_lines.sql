-- retry.c, retry_lines: which lines of the first file a retry repeats. $1 job, $2 statuses, $3 behind which
-- line of the job, $4 how many.
select x.line, x.root_line from mserve.retry_lines($1, string_to_array($2, ',')) x
where x.line > $3 and not x.invalid order by x.line limit $4;
