-- producer/results.c: $1 job, $2 which (0 all, 1 completed, 2 the others): all rows in the order in
-- which they were committed.
declare results_cursor no scroll cursor for
  select line, output from mserve.batch_results
    where job = $1 and ($2 = 0 or ($2 = 1) = (status = 'completed'))
    order by finished_at, line;
