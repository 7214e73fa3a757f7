-- tenant.c, tenant_erase_open: $1 tenant.
select exists (select from mserve.tenants where tenant = $1);
