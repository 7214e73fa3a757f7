-- lease.c, lease_claim: $1 worker, $2 token, $3 topic, $4 one partition or null for any, $5 how many.
select part, epoch, token from mserve.claim_partitions($1, $2, $3, $4, $5) order by part;
