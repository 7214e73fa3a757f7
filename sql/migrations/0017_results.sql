-- 0017_results.sql: what came out, in every form: the output lines in less time, a chain of retries
-- read as one job, and the parts of documents.

-- As in 0003, to the byte; a body is not read again only to be joined to its line.
create or replace view mserve.batch_results with (security_invoker = true) as
select r.job, 'batch_' || mserve.hex(r.job) as batch_id, r.line, r.custom_id, r.status, r.status_code,
  r.finished_at,
  (select row_to_json(o) from (select
      'batch_req_' || h.request as id,
      r.custom_id,
      case when r.status_code is not null or r.response is not null then
        (select row_to_json(a) from (select
            coalesce(r.status_code, 200) as status_code,
            'req_' || h.request as request_id,
            coalesce(r.response, ('{"error":' || r.error::text || '}')::json) as body) a)
        end as response,
      case when r.status_code is null and r.response is null then r.error end as error
    from (select mserve.hex(r.job) || '_' || r.line as request) h) o) as output
from mserve.results r;

-- ------------------------------------------------------------------------------ chains of jobs ----

create index retried_lines_of_root on mserve.retried_lines (job, root_line);

-- The row of a line is chosen first and then fetched, each by its key: `offset 0` keeps a planner who
-- overestimates from reading all rows of all jobs instead. Where row-level security holds, an index is
-- used for comparisons only that cannot tell what they saw: `case` can not, `coalesce` and a sum could.
create view mserve.latest_results with (security_invoker = true) as
select r.job as root, 'batch_' || mserve.hex(r.job) as root_batch_id, r.line,
  x.job, x.line as job_line, x.custom_id, x.status, x.status_code, x.response, x.error,
  x.input_tokens, x.cached_tokens, x.output_tokens, x.gpu_ns, x.finished_at,
  (select row_to_json(o) from (select
      'batch_req_' || h.request as id,
      x.custom_id,
      case when x.status_code is not null or x.response is not null then
        (select row_to_json(a) from (select
            coalesce(x.status_code, 200) as status_code,
            'req_' || h.request as request_id,
            coalesce(x.response, ('{"error":' || x.error::text || '}')::json) as body) a)
        end as response,
      case when x.status_code is null and x.response is null then x.error end as error
    from (select mserve.hex(x.job) || '_' || x.line as request) h) o) as output
from mserve.jobs j
  join mserve.results r on r.job = j.job
  left join lateral (
    select t.job, t.line
      from mserve.jobs k
        join mserve.retried_lines t on t.job = k.job and t.root_line = r.line
        join mserve.results n on n.job = t.job and n.line = t.line
      where k.retry_root = r.job
      order by n.status = 'completed' desc, t.job desc limit 1) p on true
  join lateral (
    select * from mserve.results y
      where y.job = case when p.job is null then r.job else p.job end
        and y.line = case when p.job is null then r.line else p.line end offset 0) x on true
where j.retry_root is null;
comment on view mserve.latest_results is 'The lines of a job that was submitted, each with its newest row: its own, or that of a retry. A completed row counts as newer than any other.';
comment on column mserve.latest_results.root is 'The first job of the chain.';
comment on column mserve.latest_results.root_batch_id is 'The same as people see it.';
comment on column mserve.latest_results.line is 'Which request of that job, counted from 0 without blank lines.';
comment on column mserve.latest_results.job is 'Whose row it is: that job, or a retry.';
comment on column mserve.latest_results.job_line is 'The line there.';
comment on column mserve.latest_results.custom_id is 'The user''s name for it.';
comment on column mserve.latest_results.status is 'completed, failed, cancelled or expired.';
comment on column mserve.latest_results.status_code is 'The HTTP status; null where the request never ran.';
comment on column mserve.latest_results.response is 'The response body, as the endpoint defines it.';
comment on column mserve.latest_results.error is '{code, message} of a request that got no response.';
comment on column mserve.latest_results.input_tokens is 'Prompt tokens of that row.';
comment on column mserve.latest_results.cached_tokens is 'Of these, found in the KV cache.';
comment on column mserve.latest_results.output_tokens is 'Tokens generated on that row.';
comment on column mserve.latest_results.gpu_ns is 'Device time on that row; earlier rows of the line have cost theirs.';
comment on column mserve.latest_results.finished_at is 'When it was committed.';
comment on column mserve.latest_results.output is 'The line of the output file; its ids are those of the job whose row it is.';

-- ----------------------------------------------------------------------------------- documents ----

create view mserve.document_results with (security_invoker = true) as
select d.job, 'batch_' || mserve.hex(d.job) as batch_id, d.path, d.first_line, d.parts,
  (b.line - d.first_line)::integer as part, b.line, b.custom_id, b.status, b.status_code,
  b.finished_at, b.output
from mserve.documents d
  join lateral (select d.first_line + d.parts as line offset 0) behind on true
  join mserve.batch_results b on b.job = d.job and b.line >= d.first_line and b.line < behind.line;
comment on view mserve.document_results is 'Each part of a document that has its row: order by job, first_line, part.';
comment on column mserve.document_results.job is 'Whose document.';
comment on column mserve.document_results.batch_id is 'The same as people see it.';
comment on column mserve.document_results.path is 'The document''s name.';
comment on column mserve.document_results.first_line is 'The line of its first part.';
comment on column mserve.document_results.parts is 'How many parts it has.';
comment on column mserve.document_results.part is 'Which of them, from 0.';
comment on column mserve.document_results.line is 'The request that it is, counted from 0 without blank lines.';
comment on column mserve.document_results.custom_id is 'The user''s name for it.';
comment on column mserve.document_results.status is 'completed, failed, cancelled or expired.';
comment on column mserve.document_results.status_code is 'The HTTP status; null where the request never ran.';
comment on column mserve.document_results.finished_at is 'When it was committed.';
comment on column mserve.document_results.output is 'The line of the output file (completed) or the error file (the others).';
