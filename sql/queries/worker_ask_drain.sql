-- producer/commands/command_worker.c: an operator wants a worker to leave; the earlier of two times stands.
-- $1 worker, $2 within how many ms.
with asked as (
  update mserve.workers
    set leave_by = least(leave_by, clock_timestamp() + $2::bigint * interval '1 ms')
    where worker = $1 and closed_at is null
    returning worker, leave_by),
noted as (
  insert into mserve.audit_log (action, detail)
    select 'drain', json_build_object('worker', worker, 'by', leave_by) from asked)
select greatest(0, ceil(extract(epoch from leave_by - clock_timestamp())))::bigint from asked;
