-- tenant.c, tenant_erase_step: $1 job, $2 the line before, $3 how many rows.
select mserve.erase_rows($1, $2, $3);
