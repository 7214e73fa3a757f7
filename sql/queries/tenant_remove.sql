-- tenant.c, tenant_remove: $1 tenant: its roles, null when there is no such tenant; whether it is gone.
select array_to_string(roles, ', '), gone from mserve.remove_tenant($1);
