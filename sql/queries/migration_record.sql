-- migrate.c: records a migration. $1 number, $2 name, $3 sha256 in hex.
insert into mserve.schema_migrations (number, name, sha256) values ($1, $2, $3);
