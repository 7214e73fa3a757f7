-- 0001_tables.sql: the tables of the queue. Protocol in docs/architecture.md; functions follow in
-- 0002, views in 0003. Applied by `mserve migrate` in one transaction; never edited after it landed.

create schema if not exists mserve;

comment on schema mserve is 'Asynchronous batch inference: jobs, their results, and what each cost.';

-- Time is the database's clock. UUIDv7 from it makes a job id a point in time, so that a range of
-- job ids is a range of time.
create function mserve.uuid7() returns uuid language sql volatile as $$
  select encode(
    overlay(overlay(uuid_send(gen_random_uuid())
      placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6)
      placing set_byte('\x00'::bytea, 0, 112 | (get_byte(uuid_send(gen_random_uuid()), 0) & 15)) from 7 for 1),
    'hex')::uuid
$$;

-- ---------------------------------------------------------------------------------------- who ----

create table mserve.tenants (
  tenant     text not null,
  role       text,
  created_at timestamptz not null default clock_timestamp(),
  constraint tenants_pkey primary key (tenant),
  constraint tenants_role_key unique (role),
  constraint tenants_name_is_plain check (tenant ~ '^[a-z0-9][a-z0-9_.-]{0,62}$')
);
comment on table mserve.tenants is 'Who submits. A client cannot choose its tenant: the PostgreSQL role it logs in with decides.';
comment on column mserve.tenants.tenant is 'Short name, lower case.';
comment on column mserve.tenants.role is 'The PostgreSQL role bound to it; null for `default`, which is everybody else.';
comment on column mserve.tenants.created_at is 'When it was registered.';

insert into mserve.tenants (tenant) values ('default');

create function mserve.current_tenant() returns text language sql stable as $$
  select coalesce((select tenant from mserve.tenants where role = session_user), 'default')
$$;

-- --------------------------------------------------------------------------------------- what ----

create table mserve.models (
  served_name text not null,
  tier        text not null,
  topic       text not null,
  partitions  integer not null,
  constraint models_pkey primary key (served_name, tier),
  constraint models_partitions_positive check (partitions > 0)
);
comment on table mserve.models is 'Which tier answers to which model name; written by `mserve topics` from the settings.';
comment on column mserve.models.served_name is 'A value of the body''s `model`.';
comment on column mserve.models.tier is 'Name of the tier in the settings.';
comment on column mserve.models.topic is 'The Kafka topic of the tier.';
comment on column mserve.models.partitions is 'Partitions of the topic when it was registered; jobs keep their own number.';

create table mserve.jobs (
  job              uuid not null default mserve.uuid7(),
  tenant           text not null default mserve.current_tenant(),
  idempotency_key  text not null,
  content_sha256   bytea not null,
  input_name       text not null,
  endpoint         text not null,
  tier             text not null,
  model            text,
  topic            text not null,
  partitions       integer not null,
  partition_first  integer not null,
  chunk_lines_max  integer not null,
  chunk_bytes_max  integer not null,
  completion_window text not null,
  metadata         json,
  priority         integer not null default 0,
  state            text not null default 'validating',
  wish             text,
  lines            bigint,
  lines_blank      bigint not null default 0,
  completed        bigint not null default 0,
  failed           bigint not null default 0,
  cancelled        bigint not null default 0,
  expired          bigint not null default 0,
  input_tokens     bigint not null default 0,
  cached_tokens    bigint not null default 0,
  output_tokens    bigint not null default 0,
  rows_ns          bigint not null default 0,
  shared_ns        bigint not null default 0,
  recompute_ns     bigint not null default 0,
  lost_ns          bigint not null default 0,
  error_code       text,
  error_message    text,
  created_at       timestamptz not null default clock_timestamp(),
  expires_at       timestamptz not null,
  heard_at         timestamptz not null default clock_timestamp(),
  in_progress_at   timestamptz,
  finalizing_at    timestamptz,
  completed_at     timestamptz,
  failed_at        timestamptz,
  expired_at       timestamptz,
  cancelling_at    timestamptz,
  cancelled_at     timestamptz,
  constraint jobs_pkey primary key (job),
  constraint jobs_idempotency_key unique (tenant, idempotency_key),
  constraint jobs_state_known check (state in ('validating', 'in_progress', 'finalizing', 'completed',
    'failed', 'expired', 'cancelling', 'cancelled')),
  constraint jobs_wish_known check (wish in ('cancel', 'expire')),
  constraint jobs_sealed_has_lines check ((state in ('validating', 'failed', 'cancelled')) or lines is not null),
  constraint jobs_counts_fit check (completed >= 0 and failed >= 0 and cancelled >= 0 and expired >= 0
    and (lines is null or completed + failed + cancelled + expired <= lines)),
  constraint jobs_ended_is_whole check (state not in ('completed', 'expired')
    or completed + failed + cancelled + expired = lines),
  constraint jobs_window_is_forward check (expires_at > created_at),
  constraint jobs_partitions_positive check (partitions > 0 and partition_first between 0 and partitions - 1),
  constraint jobs_chunk_lines_fit check (chunk_lines_max between 1 and 1024)
) with (fillfactor = 70);
comment on table mserve.jobs is 'A submitted file: the OpenAI batch. A terminal job never changes again, except lost_ns.';
comment on column mserve.jobs.job is 'UUIDv7 of the database''s clock; people see batch_<32 hex>.';
comment on column mserve.jobs.tenant is 'Whose job it is.';
comment on column mserve.jobs.idempotency_key is 'Given with --idempotency-key, else a hash of content and options: the same command again finds the same job.';
comment on column mserve.jobs.content_sha256 is 'Of the request lines as sent; an explicit key with other content is refused.';
comment on column mserve.jobs.input_name is 'Name of the file, for people; "-" for standard input.';
comment on column mserve.jobs.endpoint is 'The url of every line, e.g. /v1/chat/completions.';
comment on column mserve.jobs.tier is 'The tier that runs it.';
comment on column mserve.jobs.model is 'The model of the lines when all name the same one.';
comment on column mserve.jobs.topic is 'The Kafka topic that its lines went to.';
comment on column mserve.jobs.partitions is 'P: chunk c lies in partition (partition_first + c) mod P.';
comment on column mserve.jobs.partition_first is 'hash(job) mod P.';
comment on column mserve.jobs.chunk_lines_max is 'Lines of a chunk when the job was made; a resumed upload cuts the same way.';
comment on column mserve.jobs.chunk_bytes_max is 'Bytes of a chunk, likewise.';
comment on column mserve.jobs.completion_window is 'As the user said it: 24h, 7d, 90m.';
comment on column mserve.jobs.metadata is 'At most 16 pairs of the user''s own.';
comment on column mserve.jobs.priority is 'Higher goes first inside a tenant; 0 is normal.';
comment on column mserve.jobs.state is 'OpenAI''s batch status.';
comment on column mserve.jobs.wish is 'cancel or expire: what the holders of its partitions shall write on the remaining lines.';
comment on column mserve.jobs.lines is 'Requests in the file; null until the job is sealed, which is when it is accepted.';
comment on column mserve.jobs.lines_blank is 'Blank lines passed over.';
comment on column mserve.jobs.completed is 'Result rows with status completed, as folded.';
comment on column mserve.jobs.failed is 'Result rows with status failed.';
comment on column mserve.jobs.cancelled is 'Result rows with status cancelled.';
comment on column mserve.jobs.expired is 'Result rows with status expired.';
comment on column mserve.jobs.input_tokens is 'Prompt tokens of its rows.';
comment on column mserve.jobs.cached_tokens is 'Of these, found in the KV cache.';
comment on column mserve.jobs.output_tokens is 'Tokens generated on its rows.';
comment on column mserve.jobs.rows_ns is 'Device time on its result rows, nanoseconds.';
comment on column mserve.jobs.shared_ns is 'Device time of prefixes that its requests share.';
comment on column mserve.jobs.recompute_ns is 'Device time spent reading again after a loss; charged to nobody.';
comment on column mserve.jobs.lost_ns is 'Device time of its requests that came to no row; may grow after the end.';
comment on column mserve.jobs.error_code is 'Why it failed as a whole, e.g. upload_abandoned.';
comment on column mserve.jobs.error_message is 'The same in a sentence.';
comment on column mserve.jobs.created_at is 'The window runs from here.';
comment on column mserve.jobs.expires_at is 'End of the window.';
comment on column mserve.jobs.heard_at is 'Last sign of its submitter while it uploads.';
comment on column mserve.jobs.in_progress_at is 'When it was sealed, and so accepted.';
comment on column mserve.jobs.finalizing_at is 'When its last row was folded.';
comment on column mserve.jobs.completed_at is 'When it became completed.';
comment on column mserve.jobs.failed_at is 'When it became failed.';
comment on column mserve.jobs.expired_at is 'When it became expired.';
comment on column mserve.jobs.cancelling_at is 'When a cancel was asked for.';
comment on column mserve.jobs.cancelled_at is 'When it became cancelled.';

create index jobs_open on mserve.jobs (topic, job) where state in ('in_progress', 'cancelling');
create index jobs_uploading on mserve.jobs (heard_at) where state = 'validating';
create index jobs_window on mserve.jobs (expires_at) where state in ('validating', 'in_progress') and wish is null;
create index jobs_of_tenant on mserve.jobs (tenant, job desc);

create table mserve.chunks (
  job          uuid not null,
  chunk        integer not null,
  first_line   bigint not null,
  lines        integer not null,
  topic        text not null,
  part         integer not null,
  first_offset bigint not null,
  last_offset  bigint not null,
  bytes        bigint not null,
  sha256       bytea not null,
  custom_ids   bytea not null,
  work         bigint not null,
  done_map     bit varying(1024) not null,
  done_count   integer not null default 0,
  whole        boolean not null generated always as (done_count = lines) stored,
  missing      boolean not null default false,
  constraint chunks_pkey primary key (job, chunk),
  constraint chunks_job_fkey foreign key (job) references mserve.jobs (job) on delete cascade,
  constraint chunks_lines_fit check (lines between 1 and 1024),
  constraint chunks_map_fits check (length(done_map) = lines and done_count between 0 and lines),
  constraint chunks_offsets_ascend check (first_offset >= 0 and last_offset >= first_offset + lines - 1)
) with (fillfactor = 70);
comment on table mserve.chunks is 'The index of the log: where each run of a job''s lines lies in Kafka, and which of its lines have rows.';
comment on column mserve.chunks.job is 'Whose lines they are.';
comment on column mserve.chunks.chunk is 'Number inside the job, from 0.';
comment on column mserve.chunks.first_line is 'Its first request, counted from 0 without blank lines.';
comment on column mserve.chunks.lines is 'How many requests.';
comment on column mserve.chunks.topic is 'The job''s topic, repeated for the index by partition.';
comment on column mserve.chunks.part is 'The partition it was sent to.';
comment on column mserve.chunks.first_offset is 'Smallest offset of its confirmed messages.';
comment on column mserve.chunks.last_offset is 'Largest; other chunks'' messages may lie between.';
comment on column mserve.chunks.bytes is 'Bytes of its message values.';
comment on column mserve.chunks.sha256 is 'Of its message values in order of line, each followed by a newline.';
comment on column mserve.chunks.custom_ids is 'Its custom_ids, each ended by a zero byte, zstd-compressed: rows can be written without the log.';
comment on column mserve.chunks.work is 'Estimated work in tokens (prompt bytes / 4 + max_tokens), for fair order.';
comment on column mserve.chunks.done_map is 'Bit i: request first_line + i has its row.';
comment on column mserve.chunks.done_count is 'Bits set.';
comment on column mserve.chunks.whole is 'All its lines have rows. In an index; done_count is in none, so that its updates are HOT.';
comment on column mserve.chunks.missing is 'Its messages are not where this row says.';

create index chunks_open on mserve.chunks (topic, part, job, chunk) where not whole;

create table mserve.blobs (
  sha256     bytea not null,
  body       bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint blobs_pkey primary key (sha256),
  constraint blobs_sha256_fits check (length(sha256) = 32)
);
alter table mserve.blobs alter column body set storage external;
comment on table mserve.blobs is 'Claim check: bodies over submit.inline_bytes_max; the message carries the digest.';
comment on column mserve.blobs.sha256 is 'Of the body as submitted.';
comment on column mserve.blobs.body is 'The body, zstd-compressed.';
comment on column mserve.blobs.created_at is 'When it was stored.';

-- ------------------------------------------------------------------------------ who works on it ----

create table mserve.workers (
  worker         uuid not null default mserve.uuid7(),
  token          bigint not null,
  name           text not null,
  host           text not null,
  pid            integer not null,
  topics         text[] not null,
  device         text not null,
  model          text,
  model_digest   bytea,
  numerics       text,
  price_per_hour numeric not null,
  currency       text not null,
  registered_at  timestamptz not null default clock_timestamp(),
  lease_until    timestamptz not null,
  ledger_seq     bigint not null default 0,
  booked_ns      bigint not null default 0,
  reported_ns    bigint not null default 0,
  wip_ns         bigint not null default 0,
  wip_jobs       json,
  draining       boolean not null default false,
  closed_at      timestamptz,
  closed_why     text,
  constraint workers_pkey primary key (worker),
  constraint workers_price_not_negative check (price_per_hour >= 0),
  constraint workers_time_ascends check (booked_ns >= 0 and reported_ns >= booked_ns and wip_ns >= 0),
  constraint workers_closed_has_why check ((closed_at is null) = (closed_why is null))
) with (fillfactor = 50);
comment on table mserve.workers is 'A worker is a row with a lease; the row stays when it is gone, as the receipt of its results.';
comment on column mserve.workers.worker is 'A new one each time the program starts.';
comment on column mserve.workers.token is 'Random: with the id it proves that the caller is this worker, also after a failover.';
comment on column mserve.workers.name is 'worker.name of the settings, or the host''s name.';
comment on column mserve.workers.host is 'Where it runs.';
comment on column mserve.workers.pid is 'Its process there.';
comment on column mserve.workers.topics is 'The topics whose partitions it claims.';
comment on column mserve.workers.device is 'cpu, or the GPU''s name; "none" for the scheduler, which writes cancelled rows only.';
comment on column mserve.workers.model is 'Name of the model it has loaded.';
comment on column mserve.workers.model_digest is 'sha256 of the model file.';
comment on column mserve.workers.numerics is 'Backend, instruction set, build: equal values, equal tokens.';
comment on column mserve.workers.price_per_hour is 'Of its device, from its settings.';
comment on column mserve.workers.currency is 'Of that price.';
comment on column mserve.workers.registered_at is 'When it came.';
comment on column mserve.workers.lease_until is 'Until then all it holds is its own.';
comment on column mserve.workers.ledger_seq is 'Number of its last commit: one number, one commit.';
comment on column mserve.workers.booked_ns is 'Device time it has held, as far as its ledger rows say.';
comment on column mserve.workers.reported_ns is 'The same as of its last renewal: what a burial can still know.';
comment on column mserve.workers.wip_ns is 'Device time in unfinished requests at its last commit.';
comment on column mserve.workers.wip_jobs is 'The same by job: {"job": ns}.';
comment on column mserve.workers.draining is 'It takes no new work.';
comment on column mserve.workers.closed_at is 'When it was buried.';
comment on column mserve.workers.closed_why is 'drained, lease_ran_out, history (the database went back), error.';

-- Not lease_until: a renewal that changes no indexed column is HOT.
create index workers_open on mserve.workers (worker) where closed_at is null;

create table mserve.partitions (
  topic text not null,
  part  integer not null,
  epoch bigint not null default 0,
  token bigint not null default 0,
  owner uuid,
  constraint partitions_pkey primary key (topic, part),
  constraint partitions_owner_fkey foreign key (owner) references mserve.workers (worker)
) with (fillfactor = 50);
comment on table mserve.partitions is 'Who may write results of the chunks of a partition: the fence.';
comment on column mserve.partitions.topic is 'Kafka topic.';
comment on column mserve.partitions.part is 'Kafka partition.';
comment on column mserve.partitions.epoch is 'Grows with each claim.';
comment on column mserve.partitions.token is 'Random with each claim: epochs repeat after a failover that lost commits.';
comment on column mserve.partitions.owner is 'The worker that holds it; null when free.';

-- ------------------------------------------------------------------------------ what came of it ----

create table mserve.results (
  job           uuid not null,
  line          bigint not null,
  custom_id     text not null,
  status        text not null,
  status_code   smallint,
  response      json,
  error         json,
  input_tokens  integer not null default 0,
  cached_tokens integer not null default 0,
  output_tokens integer not null default 0,
  gpu_ns        bigint not null default 0,
  attempt       integer not null default 1,
  worker        uuid,
  finished_at   timestamptz not null default clock_timestamp(),
  constraint results_pkey primary key (job, line),
  constraint results_status_known check (status in ('completed', 'failed', 'cancelled', 'expired')),
  constraint results_cost_not_negative check (gpu_ns >= 0)
) partition by range (job);
create table mserve.results_default partition of mserve.results default;
comment on table mserve.results is 'One row for each accepted request. No foreign key to jobs: it would lock a hot row.';
comment on column mserve.results.job is 'Whose request.';
comment on column mserve.results.line is 'Which request, counted from 0 without blank lines.';
comment on column mserve.results.custom_id is 'The user''s name for it.';
comment on column mserve.results.status is 'completed, failed, cancelled or expired.';
comment on column mserve.results.status_code is 'The HTTP status that a server would have answered; null where the request never ran.';
comment on column mserve.results.response is 'The response body, as the endpoint defines it.';
comment on column mserve.results.error is '{code, message} of a request that got no response.';
comment on column mserve.results.input_tokens is 'Prompt tokens.';
comment on column mserve.results.cached_tokens is 'Of these, found in the KV cache.';
comment on column mserve.results.output_tokens is 'Tokens generated.';
comment on column mserve.results.gpu_ns is 'Device time that this one request cost, nanoseconds.';
comment on column mserve.results.attempt is 'Which run of the request brought the row.';
comment on column mserve.results.worker is 'Who wrote it: device, model digest, numerics and price stand there.';
comment on column mserve.results.finished_at is 'When it was committed.';

create table mserve.attempts (
  worker uuid not null,
  seq    bigint not null,
  job    uuid not null,
  line   bigint not null,
  gpu_ns bigint not null,
  why    text not null,
  at     timestamptz not null default clock_timestamp()
);
comment on table mserve.attempts is 'Append-only: runs of a request that ended without its row. Their time is in lost.';
comment on column mserve.attempts.worker is 'Who ran it.';
comment on column mserve.attempts.seq is 'The ledger row that booked it.';
comment on column mserve.attempts.job is 'Whose request.';
comment on column mserve.attempts.line is 'Which request.';
comment on column mserve.attempts.gpu_ns is 'What it had cost.';
comment on column mserve.attempts.why is 'duplicate (a row was there), fenced (the partition went to another), cancelled.';
comment on column mserve.attempts.at is 'When it was booked.';

create index attempts_of_request on mserve.attempts (job, line);

create table mserve.worker_ledger (
  worker         uuid not null,
  seq            bigint not null,
  held_ns        bigint not null,
  taken_over_ns  bigint not null default 0,
  rows_ns        bigint not null,
  handed_over_ns bigint not null default 0,
  wip_ns         bigint not null,
  shared_ns      bigint not null,
  recompute_ns   bigint not null,
  overhead_ns    bigint not null,
  idle_ns        bigint not null,
  lost_ns        bigint not null,
  estimated      boolean not null default false,
  at             timestamptz not null default clock_timestamp(),
  constraint worker_ledger_pkey primary key (worker, seq)
);
comment on table mserve.worker_ledger is 'Append-only, one row a commit: where the device time of a worker went. held + taken over = rows + handed over + wip + shared + recompute + overhead + idle + lost, each measured on its own.';
comment on column mserve.worker_ledger.worker is 'Whose time.';
comment on column mserve.worker_ledger.seq is 'Number of the commit.';
comment on column mserve.worker_ledger.held_ns is 'Device time held since the row before.';
comment on column mserve.worker_ledger.taken_over_ns is 'Cost taken from checkpoints of earlier attempts.';
comment on column mserve.worker_ledger.rows_ns is 'Moved to result rows.';
comment on column mserve.worker_ledger.handed_over_ns is 'Moved to checkpoint rows.';
comment on column mserve.worker_ledger.wip_ns is 'Change of the work in progress; negative when it shrank.';
comment on column mserve.worker_ledger.shared_ns is 'Prefixes shared by requests of a job.';
comment on column mserve.worker_ledger.recompute_ns is 'Reading again after a loss.';
comment on column mserve.worker_ledger.overhead_ns is 'Loading, padding, rows past a stop, gaps with work at hand.';
comment on column mserve.worker_ledger.idle_ns is 'Nothing to do.';
comment on column mserve.worker_ledger.lost_ns is 'Came to no row.';
comment on column mserve.worker_ledger.estimated is 'Written by a burial from what the worker last reported.';
comment on column mserve.worker_ledger.at is 'When.';

create table mserve.job_deltas (
  id            bigint generated always as identity,
  job           uuid not null,
  completed     bigint not null default 0,
  failed        bigint not null default 0,
  cancelled     bigint not null default 0,
  expired       bigint not null default 0,
  input_tokens  bigint not null default 0,
  cached_tokens bigint not null default 0,
  output_tokens bigint not null default 0,
  rows_ns       bigint not null default 0,
  shared_ns     bigint not null default 0,
  recompute_ns  bigint not null default 0,
  lost_ns       bigint not null default 0,
  constraint job_deltas_pkey primary key (id)
);
comment on table mserve.job_deltas is 'A queue of progress: written with results, folded into jobs by deletion each second.';
comment on column mserve.job_deltas.id is 'Order of writing; ids become visible out of order, so nothing waits for one.';
comment on column mserve.job_deltas.job is 'Whose progress. A row of zeros asks the fold to look at the job.';
comment on column mserve.job_deltas.completed is 'To add to the job''s column of that name, as the others.';
comment on column mserve.job_deltas.failed is 'To add.';
comment on column mserve.job_deltas.cancelled is 'To add.';
comment on column mserve.job_deltas.expired is 'To add.';
comment on column mserve.job_deltas.input_tokens is 'To add.';
comment on column mserve.job_deltas.cached_tokens is 'To add.';
comment on column mserve.job_deltas.output_tokens is 'To add.';
comment on column mserve.job_deltas.rows_ns is 'To add.';
comment on column mserve.job_deltas.shared_ns is 'To add.';
comment on column mserve.job_deltas.recompute_ns is 'To add.';
comment on column mserve.job_deltas.lost_ns is 'To add.';

create table mserve.audit_log (
  at     timestamptz not null default clock_timestamp(),
  role   text not null default session_user,
  action text not null,
  job    uuid,
  detail json
);
comment on table mserve.audit_log is 'Append-only: what people and the control plane did to jobs.';
comment on column mserve.audit_log.at is 'When.';
comment on column mserve.audit_log.role is 'The PostgreSQL role that did it.';
comment on column mserve.audit_log.action is 'submit, cancel, expire, abandon, seal.';
comment on column mserve.audit_log.job is 'To which job.';
comment on column mserve.audit_log.detail is 'What else is to be known.';
