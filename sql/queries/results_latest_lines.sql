-- producer/results/results_rows.c: as results_lines.sql, of the chain that begins with job $1.
copy (
  select line, job, job_line, custom_id, status, status_code, response, error,
    input_tokens, output_tokens, gpu_ns, finished_at
    from mserve.latest_results
    where root = $1 and line = any ($2)
      and ($3 = 0 or ($3 = 1) = (status = 'completed'))
    order by finished_at, line) to stdout (format binary);
