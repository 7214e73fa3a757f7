-- producer/results/results_rows.c: as results_documents_page.sql, of the chain that begins with job $1.
copy (
  select l.line, l.job, l.job_line, l.custom_id, l.status, l.status_code, l.response, l.error,
    l.input_tokens, l.output_tokens, l.gpu_ns, l.finished_at,
    d.first_line, d.parts, d.path
    from mserve.documents d
      join lateral (
        select greatest(d.first_line, $3) as first, least(d.first_line + d.parts, $4) as behind
          offset 0) p on true
      join lateral (
        select * from mserve.latest_results y
          where y.root = $1 and y.line >= p.first and y.line < p.behind offset 0) l on true
    where d.job = $1 and d.first_line >= $2
    order by d.first_line, l.line limit $5) to stdout (format binary);
