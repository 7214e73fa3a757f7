-- 0011_webhooks.sql: the tables of webhooks: where events go, the events, what is owed to whom, and
-- what came of each attempt. Who writes events is in 0012, who delivers them in 0013.

create table mserve.webhook_endpoints (
  endpoint      uuid not null default mserve.uuid7(),
  tenant        text not null default mserve.current_tenant(),
  name          text not null,
  url           text not null,
  events        text[] not null default
    '{batch.completed,batch.failed,batch.expired,batch.cancelled}',
  every_job     boolean not null default false,
  secret        bytea not null,
  old_secret    bytea,
  old_until     timestamptz,
  state         text not null default 'enabled',
  disabled_at   timestamptz,
  disabled_why  text,
  failing_since timestamptz,
  failures      integer not null default 0,
  rest_until    timestamptz not null default '-infinity',
  delivered_at  timestamptz,
  created_at    timestamptz not null default clock_timestamp(),
  constraint webhook_endpoints_pkey primary key (endpoint),
  constraint webhook_endpoints_name_key unique (tenant, name),
  constraint webhook_endpoints_state_known check (state in ('enabled', 'disabled')),
  constraint webhook_endpoints_old_has_end check ((old_secret is null) = (old_until is null)),
  constraint webhook_endpoints_events_known check (events <@ '{batch.completed,batch.failed,
    batch.expired,batch.cancelled,batch.in_progress,batch.preempted,request.completed,
    webhook.disabled}'::text[])
) with (fillfactor = 70);
comment on table mserve.webhook_endpoints is 'Where events are sent: the jobs that name an endpoint, or all jobs of its tenant.';
comment on column mserve.webhook_endpoints.endpoint is 'Its id.';
comment on column mserve.webhook_endpoints.tenant is 'Whose endpoint it is.';
comment on column mserve.webhook_endpoints.name is 'What people call it.';
comment on column mserve.webhook_endpoints.url is 'Where to: https, unless the settings allow more.';
comment on column mserve.webhook_endpoints.events is 'The types of event that it wants.';
comment on column mserve.webhook_endpoints.every_job is 'It gets the events of all jobs of its tenant, not only of those that name it.';
comment on column mserve.webhook_endpoints.secret is 'What signs its deliveries, sealed with the key of webhook.key_file (config/seal.h): whsec_… or whsk_….';
comment on column mserve.webhook_endpoints.old_secret is 'The one before; it signs too until old_until.';
comment on column mserve.webhook_endpoints.old_until is 'End of the old secret.';
comment on column mserve.webhook_endpoints.state is 'enabled or disabled.';
comment on column mserve.webhook_endpoints.disabled_at is 'When it was disabled.';
comment on column mserve.webhook_endpoints.disabled_why is 'gone (it answered 410), failing (for too long), asked (by a person).';
comment on column mserve.webhook_endpoints.failing_since is 'First of the failures since the last success; null: none.';
comment on column mserve.webhook_endpoints.failures is 'How many since.';
comment on column mserve.webhook_endpoints.rest_until is 'Nothing is sent before: it asked for less, or failed too often.';
comment on column mserve.webhook_endpoints.delivered_at is 'Its last success.';
comment on column mserve.webhook_endpoints.created_at is 'When it was added.';

create table mserve.webhook_events (
  event      uuid not null,
  tenant     text not null,
  job        uuid,
  type       text not null,
  seq        bigint not null default 0,
  lines      bigint[],
  body       text,
  created_at timestamptz not null default clock_timestamp(),
  constraint webhook_events_pkey primary key (event),
  constraint webhook_events_once unique (job, type, seq),
  constraint webhook_events_body_fits check (octet_length(body) <= 20000)
);
comment on table mserve.webhook_events is 'What happened, written in the transaction that made it so.';
comment on column mserve.webhook_events.event is 'Made from job, type and seq, so that what a failover lost comes again under its id; people see evt_<32 hex>.';
comment on column mserve.webhook_events.tenant is 'Whose event.';
comment on column mserve.webhook_events.job is 'Whose event; null: of an endpoint.';
comment on column mserve.webhook_events.type is 'batch.completed and so on.';
comment on column mserve.webhook_events.seq is '0 for what happens to a job once.';
comment on column mserve.webhook_events.lines is 'request.completed: the lines of the page.';
comment on column mserve.webhook_events.body is 'What is sent, to the byte; null until it is first claimed.';
comment on column mserve.webhook_events.created_at is 'When.';

create table mserve.webhook_deliveries (
  endpoint    uuid not null,
  event       uuid not null,
  state       text not null default 'pending',
  attempts    integer not null default 0,
  due_at      timestamptz not null default clock_timestamp(),
  lease_until timestamptz,
  token       bigint,
  ended_at    timestamptz,
  constraint webhook_deliveries_pkey primary key (endpoint, event),
  constraint webhook_deliveries_endpoint_fkey foreign key (endpoint)
    references mserve.webhook_endpoints (endpoint) on delete cascade,
  constraint webhook_deliveries_event_fkey foreign key (event)
    references mserve.webhook_events (event) on delete cascade,
  constraint webhook_deliveries_state_known check (state in ('pending', 'delivered', 'failed', 'dropped')),
  constraint webhook_deliveries_lease_has_token check ((lease_until is null) = (token is null))
) with (fillfactor = 70);
create index webhook_deliveries_due on mserve.webhook_deliveries (endpoint, due_at) where state = 'pending';
create index webhook_deliveries_of_event on mserve.webhook_deliveries (event);
comment on table mserve.webhook_deliveries is 'The outbox: which event is owed to which endpoint.';
comment on column mserve.webhook_deliveries.endpoint is 'To whom.';
comment on column mserve.webhook_deliveries.event is 'What.';
comment on column mserve.webhook_deliveries.state is 'pending, delivered, failed (no attempts are left), dropped (its endpoint was disabled).';
comment on column mserve.webhook_deliveries.attempts is 'How many were begun.';
comment on column mserve.webhook_deliveries.due_at is 'Not before.';
comment on column mserve.webhook_deliveries.lease_until is 'A sender has it until then; null: nobody.';
comment on column mserve.webhook_deliveries.token is 'Of that sender''s claim.';
comment on column mserve.webhook_deliveries.ended_at is 'When it left pending.';

create table mserve.webhook_attempts (
  endpoint    uuid not null,
  event       uuid not null,
  attempt     integer not null,
  at          timestamptz not null default clock_timestamp(),
  took_ms     integer not null,
  outcome     text not null,
  status_code integer,
  why         text,
  retry_ms    bigint,
  constraint webhook_attempts_pkey primary key (endpoint, event, attempt),
  constraint webhook_attempts_delivery_fkey foreign key (endpoint, event)
    references mserve.webhook_deliveries (endpoint, event) on delete cascade
);
comment on table mserve.webhook_attempts is 'The log of deliveries: one row for each attempt that ended.';
comment on column mserve.webhook_attempts.endpoint is 'To whom.';
comment on column mserve.webhook_attempts.event is 'What.';
comment on column mserve.webhook_attempts.attempt is 'From 1.';
comment on column mserve.webhook_attempts.at is 'When it ended.';
comment on column mserve.webhook_attempts.took_ms is 'How long it took.';
comment on column mserve.webhook_attempts.outcome is 'delivered, retried, failed, disabled.';
comment on column mserve.webhook_attempts.status_code is 'What the receiver answered; null: nothing.';
comment on column mserve.webhook_attempts.why is 'Why it was no success, in a sentence.';
comment on column mserve.webhook_attempts.retry_ms is 'After which time it is tried again.';

alter table mserve.jobs add column webhook uuid;
comment on column mserve.jobs.webhook is 'The endpoint that its submitter named; null: none.';
