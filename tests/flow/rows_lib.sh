# rows_lib.sh: a job's rows and its end, written by SQL as workers and the scheduler would, so that a
# test can look at any state. Sourced behind lib.sh.
# shellcheck shell=bash

uuid_of() { sed 's/batch_\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)\(.*\)/\1-\2-\3-\4-\5/' <<<"$1"; }
# finish_lines UUID FIRST LAST STATUS: rows as a commit writes them, with their bits in the index
finish_lines() {
    sql "begin;
      insert into mserve.results (job, line, custom_id, status, status_code, response, error, input_tokens, output_tokens, gpu_ns)
        select '$1', n, 'x-' || n, '$4', case '$4' when 'completed' then 200 when 'failed' then 400 end,
          case '$4' when 'completed' then json_build_object('choices', json_build_array(json_build_object('text', n::text))) end,
          case '$4' when 'completed' then null else json_build_object('code', 'some_code', 'message', 'why') end, 3, 2, 1000
        from generate_series($2, $3) n;
      update mserve.chunks c set done_map = b.map, done_count = b.n
        from (select chunk, (string_agg(case when r.line is null then '0' else '1' end, '' order by l.line))::bit varying as map,
                count(r.line) as n
              from mserve.chunks k, generate_series(k.first_line, k.first_line + k.lines - 1) l (line)
              left join mserve.results r on r.job = '$1' and r.line = l.line
              where k.job = '$1' group by chunk) b
        where c.job = '$1' and c.chunk = b.chunk;
      commit" >/dev/null
}
# What the scheduler does when all rows are there.
end_job() { # end_job UUID STATE
    sql "update mserve.jobs j set state = '$2', ${2}_at = clock_timestamp(), completed = r.completed, failed = r.failed,
        cancelled = r.cancelled, expired = r.expired, input_tokens = 3 * r.n, output_tokens = 2 * r.n, rows_ns = 1000 * r.n
      from (select count(*) as n, count(*) filter (where status = 'completed') as completed,
              count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'cancelled') as cancelled,
              count(*) filter (where status = 'expired') as expired from mserve.results where job = '$1') r
      where j.job = '$1'"
}
