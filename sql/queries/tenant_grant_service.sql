-- tenant.c, tenant_grant: $1 role, $2 kind.
select mserve.grant_service($1, $2);
