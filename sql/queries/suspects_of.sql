-- quarantine.c: what is known of the lines of a chunk that is marked as suspect. $1 job, $2 first line,
-- $3 how many lines.
select line, max(cap)::integer, max(deaths_alone)::integer,
    count(distinct worker) filter (where not proven),
    count(distinct host) filter (where not proven),
    count(distinct worker) filter (where not proven and alone),
    count(distinct host) filter (where not proven and alone)
  from (
    select line, cap, deaths_alone, null::uuid as worker, null::text as host, true as proven,
        false as alone
      from mserve.suspects where job = $1 and line >= $2 and line < $2 + $3
    union all
    select line, 0, 0, worker, host, proven, apart and open = 1
      from mserve.suspect_deaths where job = $1 and line >= $2 and line < $2 + $3) known
  group by line order by line;
