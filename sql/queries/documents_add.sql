-- job_documents.c, job_documents_add: $1 job, $2 series or null, then arrays: $3 first line, $4 parts,
-- $5 path, $6 sha256.
select mserve.job_add_documents($1, $2, $3, $4, $5, $6);
