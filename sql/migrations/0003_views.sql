-- 0003_views.sql: the public face: jobs, the exact OpenAI objects, what it cost, and whether the
-- bill adds up. No view applies ->> to a body: a body may hold \u0000, which text cannot.

create function mserve.hex(p_id uuid) returns text language sql immutable strict parallel safe as $$
  select replace(p_id::text, '-', '')
$$;
comment on function mserve.hex is 'The 32 digits of an id, as they stand behind batch_ and file-.';

create function mserve.unix_time(p_at timestamptz) returns bigint language sql immutable strict
parallel safe as $$
  select floor(extract(epoch from p_at))::bigint
$$;
comment on function mserve.unix_time is 'Whole seconds since 1970, as OpenAI gives all times.';

-- --------------------------------------------------------------------------------- job_status ----

create view mserve.job_status as
select j.job, 'batch_' || mserve.hex(j.job) as batch_id, j.tenant, j.input_name, j.endpoint, j.tier,
  j.model, j.state, j.wish, j.priority, j.lines, j.completed, j.failed, j.cancelled, j.expired,
  j.lines - j.completed - j.failed - j.cancelled - j.expired as remaining,
  case when j.lines > 0
    then round(100.0 * (j.completed + j.failed + j.cancelled + j.expired) / j.lines, 1) end as percent,
  j.input_tokens, j.cached_tokens, j.output_tokens, j.rows_ns, j.created_at, j.in_progress_at,
  coalesce(j.completed_at, j.failed_at, j.expired_at, j.cancelled_at) as ended_at, j.expires_at,
  j.heard_at, j.error_code, j.error_message
from mserve.jobs j;
comment on view mserve.job_status is 'A job with its state, counts and times: the view to poll.';
comment on column mserve.job_status.job is 'Its id.';
comment on column mserve.job_status.batch_id is 'The same as people see it: batch_<32 hex>.';
comment on column mserve.job_status.tenant is 'Whose job it is.';
comment on column mserve.job_status.input_name is 'Name of the file; "-" for standard input.';
comment on column mserve.job_status.endpoint is 'The url of every line.';
comment on column mserve.job_status.tier is 'The tier that runs it.';
comment on column mserve.job_status.model is 'The model of the lines when all name the same one.';
comment on column mserve.job_status.state is 'OpenAI''s batch status.';
comment on column mserve.job_status.wish is 'cancel or expire, once that was asked for.';
comment on column mserve.job_status.priority is 'Higher goes first inside a tenant.';
comment on column mserve.job_status.lines is 'Requests; null until the job is accepted.';
comment on column mserve.job_status.completed is 'Requests with a result.';
comment on column mserve.job_status.failed is 'Requests that failed.';
comment on column mserve.job_status.cancelled is 'Requests that never ran because the job was cancelled.';
comment on column mserve.job_status.expired is 'Requests that never ran because the window passed.';
comment on column mserve.job_status.remaining is 'Requests without a row yet.';
comment on column mserve.job_status.percent is 'Of the requests that have their row.';
comment on column mserve.job_status.input_tokens is 'Prompt tokens of its rows.';
comment on column mserve.job_status.cached_tokens is 'Of these, found in the KV cache.';
comment on column mserve.job_status.output_tokens is 'Tokens generated on its rows.';
comment on column mserve.job_status.rows_ns is 'Device time on its rows, nanoseconds.';
comment on column mserve.job_status.created_at is 'The window runs from here.';
comment on column mserve.job_status.in_progress_at is 'When it was accepted.';
comment on column mserve.job_status.ended_at is 'When it became terminal.';
comment on column mserve.job_status.expires_at is 'End of its window.';
comment on column mserve.job_status.heard_at is 'Last sign of its submitter while it uploads.';
comment on column mserve.job_status.error_code is 'Why it failed as a whole.';
comment on column mserve.job_status.error_message is 'The same in a sentence.';

-- -------------------------------------------------------------------------------- batch_object ----

create view mserve.batch_object as
select j.job, 'batch_' || mserve.hex(j.job) as batch_id, j.tenant, j.created_at,
  json_build_object(
    'id', 'batch_' || mserve.hex(j.job),
    'object', 'batch',
    'endpoint', j.endpoint,
    'model', j.model,
    'errors', case when j.error_code is not null then json_build_object(
      'object', 'list',
      'data', json_build_array(json_build_object(
        'code', j.error_code, 'message', j.error_message, 'param', null, 'line', null))) end,
    'input_file_id', 'file-' || left(encode(j.content_sha256, 'hex'), 32),
    'completion_window', j.completion_window,
    'status', j.state,
    'output_file_id', case when j.completed > 0
      and j.state in ('completed', 'expired', 'cancelled')
      then 'file-' || mserve.hex(j.job) || '-output' end,
    'error_file_id', case when j.failed + j.cancelled + j.expired > 0
      and j.state in ('completed', 'expired', 'cancelled')
      then 'file-' || mserve.hex(j.job) || '-errors' end,
    'created_at', mserve.unix_time(j.created_at),
    'in_progress_at', mserve.unix_time(j.in_progress_at),
    'expires_at', mserve.unix_time(j.expires_at),
    'finalizing_at', mserve.unix_time(j.finalizing_at),
    'completed_at', mserve.unix_time(j.completed_at),
    'failed_at', mserve.unix_time(j.failed_at),
    'expired_at', mserve.unix_time(j.expired_at),
    'cancelling_at', mserve.unix_time(j.cancelling_at),
    'cancelled_at', mserve.unix_time(j.cancelled_at),
    'request_counts', json_build_object(
      'total', coalesce(j.lines, 0), 'completed', j.completed, 'failed', j.failed),
    'usage', json_build_object(
      'input_tokens', j.input_tokens,
      'input_tokens_details', json_build_object('cached_tokens', j.cached_tokens),
      'output_tokens', j.output_tokens,
      'output_tokens_details', json_build_object('reasoning_tokens', 0),
      'total_tokens', j.input_tokens + j.output_tokens),
    'metadata', j.metadata) as object
from mserve.jobs j;
comment on view mserve.batch_object is 'A job as the OpenAI batch object.';
comment on column mserve.batch_object.job is 'Its id.';
comment on column mserve.batch_object.batch_id is 'The same as people see it.';
comment on column mserve.batch_object.tenant is 'Whose job it is.';
comment on column mserve.batch_object.created_at is 'To sort by.';
comment on column mserve.batch_object.object is 'The object. request_counts.failed counts requests that failed; those that were cancelled or expired are in the error file only.';

-- ------------------------------------------------------------------------------- batch_results ----

-- Text is put together and read as json once: a body keeps its bytes.
create view mserve.batch_results as
select r.job, 'batch_' || mserve.hex(r.job) as batch_id, r.line, r.custom_id, r.status, r.status_code,
  r.finished_at,
  ('{"id":"batch_req_' || mserve.hex(r.job) || '_' || r.line
    || '","custom_id":' || to_json(r.custom_id)::text
    || case when r.status_code is null and r.response is null then ',"response":null,"error":'
         || coalesce(r.error::text, 'null')
       else ',"response":{"status_code":' || coalesce(r.status_code, 200)
         || ',"request_id":"req_' || mserve.hex(r.job) || '_' || r.line || '","body":'
         || coalesce(r.response::text, '{"error":' || r.error::text || '}', 'null')
         || '},"error":null' end
    || '}')::json as output
from mserve.results r;
comment on view mserve.batch_results is 'Each result row as the exact OpenAI output line.';
comment on column mserve.batch_results.job is 'Whose request.';
comment on column mserve.batch_results.batch_id is 'The same as people see it.';
comment on column mserve.batch_results.line is 'Which request, counted from 0 without blank lines.';
comment on column mserve.batch_results.custom_id is 'The user''s name for it.';
comment on column mserve.batch_results.status is 'completed, failed, cancelled or expired.';
comment on column mserve.batch_results.status_code is 'The HTTP status; null where the request never ran.';
comment on column mserve.batch_results.finished_at is 'When it was committed.';
comment on column mserve.batch_results.output is 'The line of the output file (completed) or the error file (the others).';

-- ------------------------------------------------------------------------------------ job_cost ----

-- Money is of the worker that wrote the row. What is not on a row (shared, recompute, lost) is priced
-- as the job's rows are; of a job whose workers have prices in two currencies each gets its part.
create view mserve.job_cost as
with by_worker as (
  select r.job, r.worker, sum(r.gpu_ns) as ns
    from mserve.results r where r.gpu_ns > 0 group by r.job, r.worker),
by_currency as (
  select b.job, w.currency, sum(b.ns) as ns, sum(b.ns * w.price_per_hour) / 3600000000000 as money
    from by_worker b join mserve.workers w on w.worker = b.worker group by b.job, w.currency),
shares as (
  select c.*, c.ns / sum(c.ns) over (partition by c.job) as share, c.money / c.ns as per_ns
    from by_currency c)
select j.job, 'batch_' || mserve.hex(j.job) as batch_id, j.tenant, j.tier, j.state, s.currency,
  coalesce(s.ns, 0) as rows_ns,
  coalesce(trunc(j.shared_ns * s.share), j.shared_ns) as shared_ns,
  coalesce(trunc(j.recompute_ns * s.share), j.recompute_ns) as recompute_ns,
  coalesce(trunc(j.lost_ns * s.share), j.lost_ns) as lost_ns,
  round(coalesce(s.money, 0), 9) as rows_money,
  round(coalesce(j.shared_ns * s.share * s.per_ns, 0), 9) as shared_money,
  round(coalesce(s.money + j.shared_ns * s.share * s.per_ns, 0), 9) as charged_money,
  round(coalesce((j.recompute_ns + j.lost_ns) * s.share * s.per_ns, 0), 9) as uncharged_money
from mserve.jobs j left join shares s on s.job = j.job;
comment on view mserve.job_cost is 'What a job cost, one row for each currency (as a rule one).';
comment on column mserve.job_cost.job is 'Its id.';
comment on column mserve.job_cost.batch_id is 'The same as people see it.';
comment on column mserve.job_cost.tenant is 'Whose job it is.';
comment on column mserve.job_cost.tier is 'The tier that ran it.';
comment on column mserve.job_cost.state is 'OpenAI''s batch status.';
comment on column mserve.job_cost.currency is 'Of the prices of its workers; null while it has cost nothing.';
comment on column mserve.job_cost.rows_ns is 'Device time on its result rows.';
comment on column mserve.job_cost.shared_ns is 'Device time of prefixes that its requests share.';
comment on column mserve.job_cost.recompute_ns is 'Device time spent reading again after a loss.';
comment on column mserve.job_cost.lost_ns is 'Device time that came to no row.';
comment on column mserve.job_cost.rows_money is 'Price of rows_ns, each at its worker''s price.';
comment on column mserve.job_cost.shared_money is 'Price of shared_ns, at the price of its rows.';
comment on column mserve.job_cost.charged_money is 'Rows and shared: what the job is charged.';
comment on column mserve.job_cost.uncharged_money is 'Recompute and lost: charged to nobody, shown everywhere.';

-- -------------------------------------------------------------------------------- ledger_check ----

-- Everything is summed from where it lies: rows from the rows, not from what the ledger says of them.
create view mserve.ledger_check as
with ledger as (
  select coalesce(sum(held_ns), 0) as held_ns, coalesce(sum(taken_over_ns), 0) as taken_over_ns,
      coalesce(sum(rows_ns), 0) as rows_ns, coalesce(sum(handed_over_ns), 0) as handed_over_ns,
      coalesce(sum(wip_ns), 0) as wip_ns, coalesce(sum(shared_ns), 0) as shared_ns,
      coalesce(sum(recompute_ns), 0) as recompute_ns, coalesce(sum(overhead_ns), 0) as overhead_ns,
      coalesce(sum(idle_ns), 0) as idle_ns, coalesce(sum(lost_ns), 0) as lost_ns
    from mserve.worker_ledger),
of_rows as (
  select job, count(*) as n, count(*) filter (where status = 'completed') as completed,
      count(*) filter (where status = 'failed') as failed,
      count(*) filter (where status = 'cancelled') as cancelled,
      count(*) filter (where status = 'expired') as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(gpu_ns) as gpu_ns
    from mserve.results group by job),
of_jobs as (
  select job, sum(completed) as completed, sum(failed) as failed, sum(cancelled) as cancelled,
      sum(expired) as expired, sum(input_tokens) as input_tokens,
      sum(cached_tokens) as cached_tokens, sum(output_tokens) as output_tokens,
      sum(rows_ns) as gpu_ns, sum(shared_ns) as shared_ns, sum(recompute_ns) as recompute_ns
    from (
      select job, completed, failed, cancelled, expired, input_tokens, cached_tokens, output_tokens,
          rows_ns, shared_ns, recompute_ns from mserve.jobs
      union all
      select job, completed, failed, cancelled, expired, input_tokens, cached_tokens, output_tokens,
          rows_ns, shared_ns, recompute_ns from mserve.job_deltas) both_of_them
    group by job),
differ as (
  select count(*) as jobs from of_jobs j full join of_rows r on r.job = j.job
    where (coalesce(j.completed, 0), coalesce(j.failed, 0), coalesce(j.cancelled, 0),
        coalesce(j.expired, 0), coalesce(j.input_tokens, 0), coalesce(j.cached_tokens, 0),
        coalesce(j.output_tokens, 0), coalesce(j.gpu_ns, 0))
      <> (coalesce(r.completed, 0), coalesce(r.failed, 0), coalesce(r.cancelled, 0),
        coalesce(r.expired, 0), coalesce(r.input_tokens, 0), coalesce(r.cached_tokens, 0),
        coalesce(r.output_tokens, 0), coalesce(r.gpu_ns, 0))),
bits as (
  select count(*) as jobs from (
    select c.job, sum(c.done_count) as n, sum(bit_count(c.done_map)) as bits
      from mserve.chunks c group by c.job) c full join of_rows r on r.job = c.job
    where coalesce(c.n, 0) <> coalesce(r.n, 0) or c.n <> c.bits),
workers as (
  select count(*) as n from mserve.workers w
    left join (select worker, sum(held_ns) as held_ns, sum(wip_ns) as wip_ns, max(seq) as seq
                 from mserve.worker_ledger group by worker) l on l.worker = w.worker
    where (w.booked_ns, w.wip_ns, w.ledger_seq)
      <> (coalesce(l.held_ns, 0), coalesce(l.wip_ns, 0), coalesce(l.seq, 0)))
select l.held_ns, l.taken_over_ns, coalesce((select sum(gpu_ns) from of_rows), 0) as rows_ns,
  l.handed_over_ns, l.wip_ns, l.shared_ns, l.recompute_ns, l.overhead_ns, l.idle_ns, l.lost_ns,
  l.held_ns + l.taken_over_ns - coalesce((select sum(gpu_ns) from of_rows), 0) - l.handed_over_ns
    - l.wip_ns - l.shared_ns - l.recompute_ns - l.overhead_ns - l.idle_ns - l.lost_ns
    as unexplained_ns,
  l.shared_ns + l.recompute_ns
    - coalesce((select sum(shared_ns) + sum(recompute_ns) from of_jobs), 0) as jobs_unexplained_ns,
  d.jobs as jobs_differ, b.jobs as bitmaps_differ, w.n as workers_differ
from ledger l, differ d, bits b, workers w;
comment on view mserve.ledger_check is 'One row: does the bill add up. unexplained_ns and the four columns behind it are 0. It reads every row: for operators and tests.';
comment on column mserve.ledger_check.held_ns is 'Device time that workers held.';
comment on column mserve.ledger_check.taken_over_ns is 'Cost taken from checkpoints.';
comment on column mserve.ledger_check.rows_ns is 'Device time on the result rows, as they are.';
comment on column mserve.ledger_check.handed_over_ns is 'Moved to checkpoints.';
comment on column mserve.ledger_check.wip_ns is 'In unfinished requests.';
comment on column mserve.ledger_check.shared_ns is 'Prefixes that requests of a job share.';
comment on column mserve.ledger_check.recompute_ns is 'Reading again after a loss.';
comment on column mserve.ledger_check.overhead_ns is 'Loading, padding, gaps.';
comment on column mserve.ledger_check.idle_ns is 'Nothing to do.';
comment on column mserve.ledger_check.lost_ns is 'Came to no row.';
comment on column mserve.ledger_check.unexplained_ns is 'held + taken over - all others.';
comment on column mserve.ledger_check.jobs_unexplained_ns is 'Shared and recompute of the ledger that no job has.';
comment on column mserve.ledger_check.jobs_differ is 'Jobs whose counts, tokens or device time, folded and not, are not those of their rows.';
comment on column mserve.ledger_check.bitmaps_differ is 'Jobs whose done bits are not as many as their rows.';
comment on column mserve.ledger_check.workers_differ is 'Workers whose row does not say what their ledger says.';
