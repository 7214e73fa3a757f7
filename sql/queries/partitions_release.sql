-- lease.c, lease_release: $1 worker, $2 token, $3 topic, $4 partitions.
select mserve.release_partitions($1, $2, $3, $4);
