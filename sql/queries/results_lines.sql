-- producer/results/results_rows.c: $1 job, $2 lines, $3 which (0 all, 1 completed, 2 the others).
copy (
  select line, job, line, custom_id, status, status_code, response, error,
    input_tokens, output_tokens, gpu_ns, finished_at
    from mserve.results
    where job = $1 and line = any ($2)
      and ($3 = 0 or ($3 = 1) = (status = 'completed'))
    order by finished_at, line) to stdout (format binary);
