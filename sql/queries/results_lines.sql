-- producer/results.c: $1 job, $2 lines, $3 which (0 all, 1 completed, 2 the others).
select line, output from mserve.batch_results
  where job = $1 and line = any ($2) and ($3 = 0 or ($3 = 1) = (status = 'completed'));
