-- quarantine.c: a worker whose end its parent saw. $1 worker, $2 token, $3 why, $4 how its attempts
-- ended, $5 proven, $6 signal or null, $7 thread, $8 apart, $9 cap and $10 deaths alone of the
-- accused, $11 held, $12 overhead and $13 idle ns since it registered, then arrays: $14 job, $15 line,
-- $16 chunk, $17 accused (1) or not (0), $18 attempt, $19 tokens, $20 cost in ns.
select mserve.bury_proven($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
  $18, $19, $20);
