-- job.c, blob_put: $1 sha256 of the body, $2 the body, compressed.
select mserve.blob_put($1, $2);
