-- job.c, blob_put: $1 sha256 of the body, $2 the body, compressed.
insert into mserve.blobs (sha256, body) values ($1, $2) on conflict (sha256) do nothing;
