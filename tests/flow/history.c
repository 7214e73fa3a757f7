/* history.c: a database that goes back in time: a copy of all tables is kept in a second schema. */
#include "tests/flow/history.h"

#include "tests/flow/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The tables and the columns that can be written, those that others refer to first. */
static const char tables[] =
    "create schema history;"
    "create view history.tables as with recursive found as ("
    "  select oid, 0 as depth from pg_class where relnamespace = 'mserve'::regnamespace "
    "    and relkind in ('r', 'p') and not relispartition and relname <> 'schema_migrations' "
    "  union all select k.conrelid, f.depth + 1 from found f join pg_constraint k "
    "    on k.confrelid = f.oid and k.contype = 'f' and k.conrelid <> k.confrelid) "
    "select c.relname as name, max(f.depth) as depth, (select string_agg(quote_ident(attname), "
    "',') "
    "    from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped "
    "    and attgenerated = '') as columns "
    "  from found f join pg_class c on c.oid = f.oid where not c.relispartition group by c.oid";

static const char mark[] =
    "do $$ declare t record; begin "
    "  for t in select * from history.tables loop "
    "    execute format('create table history.%I as select %s from mserve.%I', t.name, t.columns, "
    "      t.name); "
    "  end loop; end $$";

static const char go_back[] =
    "do $$ declare t record; begin "
    "  perform pg_terminate_backend(pid, 5000) from pg_stat_activity "
    "    where datname = current_database() and usename = current_user and pid <> "
    "pg_backend_pid(); "
    "  for t in select * from history.tables order by depth desc loop "
    "    execute format('delete from mserve.%I', t.name); "
    "  end loop; "
    "  for t in select * from history.tables order by depth loop "
    "    execute format('insert into mserve.%1$I (%2$s) overriding system value select %2$s from "
    "      history.%1$I', t.name, t.columns); "
    "  end loop; end $$";

void history_mark(struct db *db)
{
    pg_do(db, "drop schema if exists history cascade");
    pg_do(db, tables);
    pg_do(db, mark);
}

void history_go_back(struct db *db)
{
    pg_do(db, go_back);
}

void history_reconnect(struct queue_worker *worker)
{
    struct db_options options = pg_options();

    assert_int_equal(db_reopen(worker->db), ERR_OK);
    commit_close(worker->commit);
    assert_int_equal(commit_open(&options, &worker->commit), ERR_OK);
}
