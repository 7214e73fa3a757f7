-- producer/results/results_rows.c: as results_order.sql, of the chain that begins with job $1.
copy (
  select line from mserve.latest_results
    where root = $1 and line >= $2
      and ($3 = 0 or ($3 = 1) = (status = 'completed'))
    order by finished_at, line) to stdout (format binary);
