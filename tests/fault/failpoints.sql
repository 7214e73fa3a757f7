-- failpoints.sql: puts failpoints into functions of the schema, for tests only: a superuser runs this
-- file on a test's own database, after the migrations. See sql/db_failpoint.c for the other side.
--
-- A call is put in front of, or behind, a line of the function as it stands in the database; a line
-- that is not there any more is an error, so no failpoint is lost without a word.
create schema failpoint;
grant usage on schema failpoint to public;

-- `notice`: the client acts while we rest here, with our locks. `error`: as a lock time-out.
create function failpoint.hit(p_point text) returns void language plpgsql as $$
declare
  v_told text := coalesce(current_setting('mserve.failpoint', true), '');
begin
  if strpos(';' || v_told, ';' || p_point || '=error;') > 0 then
    raise exception 'failpoint:%', p_point using errcode = '55P03';
  elsif strpos(';' || v_told, ';' || p_point || '=notice;') > 0 then
    raise notice 'failpoint:%', p_point;
    perform pg_sleep(0.1);
  end if;
end $$;

create function failpoint.put(p_function text, p_before text, p_point text) returns void
language plpgsql as $$
declare
  v_oid oid := (select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                where n.nspname = 'mserve' and p.proname = p_function);
  v_text text := pg_get_functiondef(v_oid);
  v_at integer := strpos(v_text, p_before);
begin
  if coalesce(v_at, 0) = 0 or strpos(substr(v_text, v_at + 1), p_before) > 0 then
    raise exception 'mserve.% has not exactly one "%"', p_function, p_before;
  end if;
  execute overlay(v_text placing format('perform failpoint.hit(%L);', p_point) || chr(10)
                  from v_at for 0);
end $$;

select failpoint.put('commit_batch', '-- Fence:', 'row.updated');
select failpoint.put('commit_batch', '-- Chunks:', 'partitions.locked');
select failpoint.put('fold', 'v_taken := v_taken + d.deltas;', 'deltas.deleted');
