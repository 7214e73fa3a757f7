-- migrate.c: one `mserve migrate` at a time; the number is "mserve" in ASCII.
select pg_advisory_xact_lock(x'6d7365727665'::bigint);
