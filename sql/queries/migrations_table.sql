-- migrate.c: where migrations are recorded, made before the first.
create schema if not exists mserve;
create table if not exists mserve.schema_migrations (
  number     integer not null,
  name       text not null,
  sha256     text not null,
  applied_at timestamptz not null default clock_timestamp(),
  constraint schema_migrations_pkey primary key (number)
);
comment on table mserve.schema_migrations is 'Which migrations were applied, by `mserve migrate`.';
comment on column mserve.schema_migrations.number is 'From the name of its file, from 1.';
comment on column mserve.schema_migrations.name is 'Likewise.';
comment on column mserve.schema_migrations.sha256 is 'Of the file; a changed file is refused.';
comment on column mserve.schema_migrations.applied_at is 'When.';
