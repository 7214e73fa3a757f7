-- producer/results/results_rows.c: $1 job, $2 the first line, $3 the line behind the last, $4 which (0 all,
-- 1 completed, 2 the others), $5 how many rows.
copy (
  select line, job, line, custom_id, status, status_code, response, error,
    input_tokens, output_tokens, gpu_ns, finished_at
    from mserve.results
    where job = $1 and line >= $2 and line < $3
      and ($4 = 0 or ($4 = 1) = (status = 'completed'))
    order by line limit $5) to stdout (format binary);
