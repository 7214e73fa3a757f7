-- quarantine.c: $1 job, $2 line, $3 custom_id, $4 body; returns the evidence.
select mserve.dead_letter_add($1, $2, $3, $4);
