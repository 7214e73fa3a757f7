-- 0016_tenants.sql: a role sees the rows of its tenant, and no others.
do $$ begin end $$; -- until its owner writes it
