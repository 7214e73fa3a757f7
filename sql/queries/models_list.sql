-- producer/tiers.c, tiers_load: every model name with its tier, in order of tier and name.
select served_name, tier, topic, partitions from mserve.models order by tier, served_name;
