-- migrate.c: what was applied, oldest first.
select number, sha256 from mserve.schema_migrations order by number;
