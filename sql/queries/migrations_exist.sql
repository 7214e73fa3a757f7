-- migrate.c, migrate_check: whether anything was ever applied.
select to_regclass('mserve.schema_migrations') is not null;
