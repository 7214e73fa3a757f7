-- job.c, blob_get: $1 a job, $2 sha256 of the body, which is of the job's tenant.
select b.body from mserve.jobs j join mserve.blobs b on b.tenant = j.tenant and b.sha256 = $2
  where j.job = $1;
