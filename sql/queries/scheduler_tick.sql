-- scheduler/scheduler.c: each second. $1 ms of silence after which an upload is abandoned.
select event, job, state from mserve.tick($1);
