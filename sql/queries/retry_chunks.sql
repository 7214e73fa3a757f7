-- retry.c, retry_chunks: where the lines to retry lie in the log. $1 job, $2 statuses, $3 behind which
-- chunk, $4 how many.
select c.chunk, c.part, c.first_line, c.lines, c.first_offset, c.last_offset, w.wanted
from mserve.chunks c cross join lateral (
  select bit_or(set_bit(repeat('0', c.lines)::bit varying, (x.line - c.first_line)::integer, 1))
      ::bit varying as wanted
    from mserve.retry_lines($1, string_to_array($2, ',')) x
    where x.line >= c.first_line and x.line < c.first_line + c.lines and not x.invalid) w
where c.job = $1 and c.chunk > $3 and w.wanted is not null
order by c.chunk limit $4;
