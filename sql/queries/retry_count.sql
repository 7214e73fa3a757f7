-- retry.c, retry_count: how many lines there are to retry, how many of them are not valid, and a digest of
-- the former. $1 job, $2 statuses, separated by commas.
select count(*) filter (where not x.invalid), count(*) filter (where x.invalid),
  sha256(coalesce(string_agg(int8send(x.line), '' order by x.line) filter (where not x.invalid), ''))
from mserve.retry_lines($1, string_to_array($2, ',')) x;
