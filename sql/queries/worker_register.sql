-- lease.c, lease_register: $1 token, $2 name, $3 host, $4 process, $5 topics, $6 device, $7 model,
-- $8 its digest, $9 numerics id, $10 price per hour as text, $11 currency, $12 lease in ms, $13
-- capacity or null, $14 price on demand as text or null, $15 the worker whose wish to leave is its own.
insert into mserve.workers (token, name, host, pid, topics, device, model, model_digest, numerics,
    price_per_hour, currency, lease_ms, lease_until, capacity, price_on_demand_per_hour, leave_by)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::numeric, $11, $12,
    clock_timestamp() + $12 * interval '1 ms', $13, $14::numeric,
    (select w.leave_by from mserve.workers w where w.worker = $15))
  returning worker;
