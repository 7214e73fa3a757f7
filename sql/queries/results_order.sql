-- producer/results/results_rows.c: $1 job, $2 the first line, $3 which (0 all, 1 completed, 2 the others): the
-- lines in the order in which their rows were committed.
copy (
  select line from mserve.results
    where job = $1 and line >= $2
      and ($3 = 0 or ($3 = 1) = (status = 'completed'))
    order by finished_at, line) to stdout (format binary);
