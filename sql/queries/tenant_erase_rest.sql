-- tenant.c, tenant_erase_step: $1 tenant, $2 how many bodies.
select mserve.erase_rest($1, $2);
