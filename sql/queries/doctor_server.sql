-- producer/doctor/doctor_database.c: how the server is set up, and its clock.
select current_setting('server_version_num')::integer, current_setting('server_version'),
  pg_is_in_recovery(), clock_timestamp(), current_setting('synchronous_standby_names'),
  current_setting('synchronous_commit'), current_setting('fsync'),
  current_setting('full_page_writes'), (select count(*) from pg_stat_replication),
  current_setting('autovacuum'), current_setting('track_counts'),
  (select string_agg(c.relname, ', ' order by c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'mserve'
      and c.reloptions && array['autovacuum_enabled=false', 'autovacuum_enabled=off']),
  pg_size_pretty(pg_database_size(current_database()));
