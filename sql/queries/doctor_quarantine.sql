-- producer/doctor/doctor_work.c: requests found guilty of killing workers that nobody has submitted anew, of
-- the last seven days, whose they are, and how many are older; then how many requests run apart, those
-- of them that have waited for an hour and $1 ms, and how long the first has, in seconds.
with guilty as (
  select tenant, at > clock_timestamp() - interval '7 days' as recent
    from mserve.dead_letters where replayed_as is null),
waiting as (select clock_timestamp() - since as age from mserve.suspects)
select count(*) filter (where recent), string_agg(distinct tenant, ', ') filter (where recent),
  count(*) filter (where not recent),
  (select count(*) from waiting),
  (select count(*) from waiting where age > interval '1 hour' + $1::bigint * interval '1 ms'),
  (select coalesce(max(extract(epoch from age)), 0)::bigint from waiting)
from guilty;
