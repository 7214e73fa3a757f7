-- producer/results/results.c: $1 job: whether it was made of documents, and whether it is a retry.
select exists (select from mserve.documents d where d.job = j.job), j.retry_root is not null
  from mserve.jobs j where j.job = $1 and j.tenant = mserve.current_tenant();
