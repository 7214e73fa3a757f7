-- job.c: one job of the caller's tenant. $1 job.
select state, tenant, topic, partitions, partition_first, chunk_lines_max, chunk_bytes_max, lines,
  created_at, expires_at
from mserve.jobs where job = $1 and tenant = mserve.current_tenant();
