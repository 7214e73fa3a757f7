-- producer/results/results_rows.c: as results_page.sql, of the chain that begins with job $1.
copy (
  select line, job, job_line, custom_id, status, status_code, response, error,
    input_tokens, output_tokens, gpu_ns, finished_at
    from mserve.latest_results
    where root = $1 and line >= $2 and line < $3
      and ($4 = 0 or ($4 = 1) = (status = 'completed'))
    order by line limit $5) to stdout (format binary);
