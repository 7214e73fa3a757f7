-- quarantine.c: a worker whose end its parent saw. $1 worker, $2 token, $3 why, $4 how its attempts
-- ended, $5 proven, $6 signal or null, $7 thread, $8 apart, $9 cap and $10 deaths alone of the
-- accused, $11 held, $12 overhead, $13 idle and $14 recompute ns since it registered, then arrays:
-- $15 job, $16 line, $17 chunk, $18 accused (1) or not (0), $19 attempt, $20 tokens, $21 cost in ns,
-- $22 recompute in ns, $23 of this what no commit is known to have booked.
select mserve.bury_proven($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
  $18, $19, $20, $21, $22, $23);
