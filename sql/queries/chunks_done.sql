-- producer/results/results_index.c: $1 job, $2 the chunk before, $3 how many: which lines have rows.
select chunk, first_line, done_map from mserve.chunks
  where job = $1 and chunk > $2 order by chunk limit $3;
