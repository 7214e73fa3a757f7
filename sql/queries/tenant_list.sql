-- producer/commands/command_tenant.c, list: each tenant with its roles, then the roles that work for all; a row
-- without a role is a tenant for which nobody can come in. The last column is the row as JSON.
with known as (
  select t.tenant, t.role, case when t.role is not null then 'tenant' end as kind,
      t.created_at as since, t.erased_at
    from mserve.tenants t
  union all
  select r.tenant, r.role, r.kind, r.granted_at, t.erased_at
    from mserve.roles r left join mserve.tenants t on t.tenant = r.tenant),
shown as (
  select k.*, count(j.job) as jobs, count(j.job) filter (where j.state in ('validating',
      'in_progress', 'finalizing', 'cancelling')) as open
    from known k left join mserve.jobs j on j.tenant = k.tenant
    group by k.tenant, k.role, k.kind, k.since, k.erased_at)
select tenant, role, kind, jobs, open, since, erased_at,
  json_build_object('tenant', tenant, 'role', role, 'kind', kind, 'jobs', jobs, 'open', open,
    'since', mserve.unix_time(since), 'erased_at', mserve.unix_time(erased_at))::text
from shown order by tenant is null, tenant, kind = 'reader', role;
