-- 0015_retry.sql: jobs that go on where others ended, jobs that wait, and jobs that are forgotten.

alter table mserve.jobs add column retry_of uuid, add column retry_root uuid;
alter table mserve.jobs add constraint jobs_retry_has_root check ((retry_of is null) = (retry_root is null));
comment on column mserve.jobs.retry_of is 'The job whose failed, cancelled or expired lines it repeats; null: none.';
comment on column mserve.jobs.retry_root is 'The first job of that chain.';
create index jobs_of_chain on mserve.jobs (retry_root, job) where retry_root is not null;

create table mserve.retried_lines (
  job       uuid not null,
  line      bigint not null,
  root_line bigint not null,
  constraint retried_lines_pkey primary key (job, line),
  constraint retried_lines_job_fkey foreign key (job) references mserve.jobs (job) on delete cascade
);
comment on table mserve.retried_lines is 'Which line of the first job of its chain a line of a retry repeats.';
comment on column mserve.retried_lines.job is 'The retry.';
comment on column mserve.retried_lines.line is 'Its line.';
comment on column mserve.retried_lines.root_line is 'The line of jobs.retry_root.';
