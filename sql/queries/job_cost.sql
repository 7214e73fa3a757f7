-- producer/command_cost.c: $1 job: one row for each currency.
select c.state, c.tier, coalesce(c.currency, ''), c.rows_ns::bigint, c.shared_ns::bigint,
    c.recompute_ns::bigint, c.lost_ns::bigint, c.rows_money::text, c.shared_money::text,
    c.charged_money::text, c.uncharged_money::text, row_to_json(c)
  from mserve.job_cost c where c.job = $1 order by c.currency;
