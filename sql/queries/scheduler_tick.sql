-- scheduler/scheduler.c: each second, and at once again after the row `more`. $1 ms of silence after
-- which an upload is abandoned, $2 how many deltas to fold at most.
select event, job, state from mserve.tick($1, $2);
