-- commit.c: once for each connection: where COPY puts the rows and the checkpoints of a commit, and
-- where rows are tried one by one. Its columns are those of commit_encode.c; a checkpoint has its
-- tokens in output_tokens, and alone has a chunk (its place in the arrays of the commit, from 1) and a
-- state.
create temporary table staging (
  job uuid, line bigint, custom_id text, status text, status_code smallint, response json,
  error json, input_tokens integer, cached_tokens integer, output_tokens integer, gpu_ns bigint,
  attempt integer, recompute_ns bigint, resumed_tokens integer, numerics_changed boolean,
  chunk integer, state bytea
) on commit delete rows;
alter table pg_temp.staging alter column state set storage external;
create temporary table probe (like mserve.results including constraints including defaults)
  on commit delete rows;
