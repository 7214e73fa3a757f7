-- purge.c, purge_next_partition: $1 the name behind which the next is wanted.
select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'mserve.results'::regclass and c.relname ~ '^results_[0-9]{6}$' and c.relname > $1
order by 1 limit 1;
