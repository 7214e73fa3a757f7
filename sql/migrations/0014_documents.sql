-- 0014_documents.sql: which lines of a job came from which document, and series of jobs.

alter table mserve.jobs add column series text;
comment on column mserve.jobs.series is 'The series it belongs to (mserve-submit --series): its documents are compared with the next one''s.';
create index jobs_of_series on mserve.jobs (tenant, series, job desc) where series is not null;

create table mserve.documents (
  job        uuid not null,
  first_line bigint not null,
  parts      integer not null,
  path       text not null,
  sha256     bytea not null,
  constraint documents_pkey primary key (job, first_line),
  constraint documents_job_fkey foreign key (job) references mserve.jobs (job) on delete cascade,
  constraint documents_parts_positive check (parts > 0)
);
comment on table mserve.documents is 'The documents of a job: lines first_line to first_line + parts - 1 are its parts, in order.';
comment on column mserve.documents.job is 'Whose.';
comment on column mserve.documents.first_line is 'The line of its first part, counted from 0 without blank lines.';
comment on column mserve.documents.parts is 'How many lines it became.';
comment on column mserve.documents.path is 'Its name: the path below the folder, in the tar, or in the list.';
comment on column mserve.documents.sha256 is 'Of its bytes as they were read.';
