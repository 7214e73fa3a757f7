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

-- Before the seal: what an upload that is killed wrote down belongs to a job that was never accepted,
-- and says nothing to anybody. Again: a document that has other bytes, but gave the same text, is known
-- by those that were read last, whatever became of the job.
create function mserve.job_add_documents(p_job uuid, p_series text, p_first_lines bigint[],
  p_parts integer[], p_paths text[], p_sha256 bytea[])
returns text language plpgsql as $$
declare
  v_job mserve.jobs;
begin
  select * into v_job from mserve.jobs j
    where j.job = p_job and mserve.is_mine(j.tenant) for no key update; -- 0016
  if not found or (v_job.lines is null and v_job.state <> 'validating') then
    return 'ended';
  end if;
  if v_job.state = 'validating' and v_job.series is null and p_series is not null then
    update mserve.jobs set series = p_series where job = p_job;
  elsif v_job.series is distinct from p_series then
    return 'other series';
  end if;
  insert into mserve.documents as d (job, first_line, parts, path, sha256)
    select p_job, u.first_line, u.parts, u.path, u.sha256
    from unnest(p_first_lines, p_parts, p_paths, p_sha256) u (first_line, parts, path, sha256)
    order by u.first_line
    on conflict (job, first_line) do update set sha256 = excluded.sha256
      where d.sha256 <> excluded.sha256;
  return 'added';
end $$;
comment on function mserve.job_add_documents is 'Says which lines of a job come from which documents, and which series it belongs to: added, ended (unsealed) or other series (it belongs to one already).';

-- What counts is the newest accepted job of the series that has a document of this path: one that was
-- changed and changed back is sent again, for its newest answer is that of other bytes. A line that
-- failed is as good as done where a retry of it is done, and as good as running where one runs. What
-- waits for its cancellation or expiry does not run. (plpgsql: retried_lines is made in 0015, as is_mine in 0016.)
create function mserve.series_documents(p_series text)
returns table (path text, sha256 bytea, job uuid, runs boolean) language plpgsql stable as $$
#variable_conflict use_column
begin
  return query
  with newest as (
    select distinct on (d.path) d.path, d.sha256, d.job, d.first_line, d.parts,
      j.state = 'in_progress' and j.wish is null as runs, j.completed = j.lines as whole
    from mserve.jobs j join mserve.documents d on d.job = j.job
    where j.tenant = mserve.current_tenant() and j.series = p_series and j.lines is not null
    order by d.path, d.job desc)
  select n.path, n.sha256, n.job, n.runs from newest n
    where n.runs or n.whole or not exists (
      select from generate_series(n.first_line, n.first_line + n.parts - 1) l (line)
      where not exists (select from mserve.results r
          where r.job = n.job and r.line = l.line and r.status = 'completed')
        and not exists (select from mserve.jobs t
          join mserve.retried_lines x on x.job = t.job and x.root_line = l.line
          left join mserve.results r on r.job = x.job and r.line = x.line
          where t.retry_root = n.job
            and ((t.state = 'in_progress' and t.wish is null) or r.status = 'completed')));
end $$;
comment on function mserve.series_documents is 'The documents of a series that need not be sent again unless they change: their lines all completed, or still run.';
