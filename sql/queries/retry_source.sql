-- retry.c, retry_source: what a retry takes over from a job of this tenant. $1 job.
select j.state, j.lines, j.endpoint, j.tier, j.completion_window, j.metadata, j.priority, j.input_name,
  j.topic, coalesce(o.content_sha256, j.content_sha256), coalesce(o.job, j.job),
  case when j.purged_at is not null then 'purged' when j.erased_at is not null then 'erased' end
from mserve.jobs j left join mserve.jobs o on o.job = j.retry_root
where j.job = $1 and j.tenant = mserve.current_tenant();
