-- job_documents.c, series_load: $1 series.
select path, sha256, job, runs from mserve.series_documents($1);
