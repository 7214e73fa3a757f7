-- lease.c, lease_wish: how many ms an operator leaves this worker, once he wants it to leave. $1 worker.
select greatest(0, ceil(1000 * extract(epoch from leave_by - clock_timestamp())))::bigint
from mserve.workers where worker = $1 and leave_by is not null;
