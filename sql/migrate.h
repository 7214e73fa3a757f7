/*
 * migrate.h: brings the schema to what this program knows, one numbered file at a time.
 *
 * Each migration is one transaction under an advisory lock, recorded with the sha256 of its file in
 * mserve.schema_migrations: two `mserve migrate` at once do the work once, and one that is killed
 * goes on where it stopped. A schema newer than the program, or made by other files than the
 * program's, is refused.
 */
#ifndef MSERVE_SQL_MIGRATE_H
#define MSERVE_SQL_MIGRATE_H

#include "sql/db.h"

#include <stdio.h>

/* Applies what is missing; a line for each goes to `out`. ERR_SCHEMA when refused. */
enum err migrate_run(struct db *db, FILE *out);

/* For the start of programs: ERR_SCHEMA unless the schema is exactly the one this program knows. */
enum err migrate_check(struct db *db);

#endif
