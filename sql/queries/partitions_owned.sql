-- lease.c, lease_owned: $1 worker, $2 topic. The partitions that the table says are this worker's.
select part from mserve.partitions where topic = $2 and owner = $1 order by part;
