-- migrate.c: after the last migration.
select mserve.secure();
