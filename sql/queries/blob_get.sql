-- job.c, blob_get: $1 sha256 of the body.
select body from mserve.blobs where sha256 = $1;
