-- tenant.c, tenant_revoke: $1 role.
select mserve.revoke_role($1);
