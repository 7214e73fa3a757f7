-- tenant.c, tenant_erase_open: $1 tenant: jobs that have not ended.
select job, state from mserve.erase_open($1);
