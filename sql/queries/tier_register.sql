-- job.c, tier_register: $1 tier, $2 topic, $3 partitions, $4 names it answers to.
select mserve.tier_register($1, $2, $3, $4);
