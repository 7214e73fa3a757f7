-- commit.c: whether rows can be stored, without storing them: the same types and constraints. The
-- caller rolls back.
begin;
copy pg_temp.staging from stdin (format binary);
insert into pg_temp.probe (job, line, custom_id, status, status_code, response, error, input_tokens,
    cached_tokens, output_tokens, gpu_ns, attempt, recompute_ns, resumed_tokens, numerics_changed)
  select job, line, custom_id, status, status_code, response, error, input_tokens, cached_tokens,
    output_tokens, gpu_ns, attempt, recompute_ns, resumed_tokens, numerics_changed
  from pg_temp.staging;
