/* commit_internal.h: what the files behind commit.h share; nobody else includes it. */
#ifndef MSERVE_SQL_COMMIT_INTERNAL_H
#define MSERVE_SQL_COMMIT_INTERNAL_H

#include "sql/commit.h"

/* Replaces what a row says when it could not be stored as it was. */
struct commit_replacement {
    uint32_t row;
    const char *error; /* JSON */
};

/*
 * Of the chunks of a batch those in which something is written: `chunk[count]` are their indexes,
 * `map` (NULL: no row) the lines that get their row, a digit each. `places` says for each chunk of
 * the batch where in `chunk` it is.
 */
struct commit_touched {
    uint32_t *chunk;
    char **map;
    uint32_t *places;
    uint32_t count;
};

struct commit {
    struct db_options options; /* its strings are the connection's */
    struct db *db;
    uint32_t staged; /* generation of the connection in which the staging table was made */
    struct buffer copy;
    struct buffer script;
    struct arena arena;    /* of one commit_run(): order, replacements, fenced */
    const uint32_t *order; /* the rows by (job, line) */
    struct commit_touched touched;
    struct commit_replacement *replaced;
    uint32_t replaced_count;
};

/*
 * commit_encode.c: rows order[first .. first + count) as COPY BINARY into `out`, which is cleared.
 * Replacements are sorted by row.
 */
void commit_encode_rows(const struct commit_batch *batch, const uint32_t *order, uint32_t first,
                        uint32_t count, const struct commit_replacement *replaced,
                        uint32_t replaced_count, struct buffer *out);

/* commit_encode.c: all rows, and behind them the checkpoints. */
void commit_encode_all(const struct commit_batch *batch, const struct commit_touched *touched,
                       const uint32_t *order, const struct commit_replacement *replaced,
                       uint32_t replaced_count, struct buffer *out);

/* commit_encode.c: the rows of a batch by (job, line); the array lies in the arena. */
const uint32_t *commit_order(const struct commit_batch *batch, struct arena *arena);

/* commit_script.c: the arrays lie in the arena. */
void commit_find_touched(const struct commit_batch *batch, struct arena *arena,
                         struct commit_touched *ret);

/* commit_script.c: `begin; copy …; select … commit_batch(…); commit` into `out`, cleared before. */
void commit_write_script(const struct commit_batch *batch, const struct commit_touched *touched,
                         struct buffer *out);

#endif
