-- tenant.c, tenant_grant: $1 tenant, $2 role, $3 kind.
select mserve.grant_tenant($1, $2, $3);
