-- purge.c, purge_rest: $1 a job without rows.
select mserve.purge_rest($1);
