-- producer/results/results_rows.c: $1 job, $2 first line of the first document, $3 the first line, $4 the line
-- behind the last, $5 how many rows: parts of documents, each with its document.
copy (
  select r.line, r.job, r.line, r.custom_id, r.status, r.status_code, r.response, r.error,
    r.input_tokens, r.output_tokens, r.gpu_ns, r.finished_at,
    d.first_line, d.parts, d.path
    from mserve.documents d
      join lateral (
        select greatest(d.first_line, $3) as first, least(d.first_line + d.parts, $4) as behind
          offset 0) p on true
      join lateral (
        select * from mserve.results y
          where y.job = d.job and y.line >= p.first and y.line < p.behind offset 0) r on true
    where d.job = $1 and d.first_line >= $2
    order by d.first_line, r.line limit $5) to stdout (format binary);
