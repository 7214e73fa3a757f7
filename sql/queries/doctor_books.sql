-- producer/doctor/doctor_work.c: what of ledger_check should be 0 and is not; null: it adds up.
select string_agg(e.key || ' = ' || e.value, ', ' order by e.key)
from mserve.ledger_check l, json_each_text(row_to_json(l)) e
where (e.key like '%unexplained_ns' or e.key like '%\_differ') and e.value::numeric <> 0;
