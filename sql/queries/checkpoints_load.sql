-- checkpoint.c, checkpoints_load: $1 job, $2 first line, $3 the line behind the last.
select line, attempt, tokens, gpu_ns, worker, state from mserve.checkpoints
  where job = $1 and line >= $2 and line < $3 order by line;
