-- tenant.c, tenant_erase_step: $1 job.
select mserve.erase_job($1);
