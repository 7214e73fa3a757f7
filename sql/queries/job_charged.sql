-- producer/job_view.c, job_view_charged: $1 job: what it is charged so far, a sum for each currency.
select string_agg(trim_scale(charged_money)::text || ' ' || currency, ' + ' order by currency)
  from mserve.job_cost where job = $1 and charged_money > 0;
