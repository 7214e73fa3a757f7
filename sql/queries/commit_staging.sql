-- commit.c: once for each connection: where COPY puts the rows of a commit, and where rows are tried
-- one by one. Its columns are those of commit_encode.c.
create temporary table staging (
  job uuid, line bigint, custom_id text, status text, status_code smallint, response json,
  error json, input_tokens integer, cached_tokens integer, output_tokens integer, gpu_ns bigint,
  attempt integer
) on commit delete rows;
create temporary table probe (like mserve.results including constraints including defaults)
  on commit delete rows;
