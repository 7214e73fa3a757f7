-- producer/results.c: $1 job, $2 the line before, $3 which (0 all, 1 completed, 2 the others), $4 how
-- many rows.
select line, output, status = 'completed' from mserve.batch_results
  where job = $1 and line > $2
    and ($3 = 0 or ($3 = 1) = (status = 'completed'))
  order by line limit $4;
