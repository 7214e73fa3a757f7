-- producer/commands/command_cost.c: $1 job: how its attempts ended that brought no row, most lost first.
select a.why, a.attempts, a.estimated, a.tokens_kept::bigint, a.tokens_lost::bigint, a.kept_ns,
    a.lost_ns, a.recompute_ns, coalesce(a.money::text, '-'), coalesce(a.currency, '')
  from mserve.job_attempts a where a.job = $1 order by a.lost_ns desc, a.why;
