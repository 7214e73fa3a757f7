-- producer/commands/command_dead.c, replay: $1 job, $2 line, $3 the key of the job that was made of it.
select mserve.dead_letter_replayed($1, $2, $3);
