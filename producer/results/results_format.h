/*
 * results_format.h: a row as the line of a file.
 *
 * OpenAI's line is that of the view batch_results, to the byte. A line of CSV has the columns of
 * docs/results.md; RFC 4180 says what is quoted, lines end with \n.
 *
 * A cell whose text a spreadsheet would run as a formula (it begins with = + - @, a tab, a carriage
 * return, or the wide forms of the four, and is no plain number) gets an apostrophe in front; so does one
 * that begins with apostrophes and then one of these, so that taking one off gives the text back.
 */
#ifndef MSERVE_PRODUCER_RESULTS_FORMAT_H
#define MSERVE_PRODUCER_RESULTS_FORMAT_H

#include "config/buffer.h"
#include "config/json.h"
#include "producer/results/results_rows.h"

extern const char results_csv_heading[]; /* with its newline */

void results_openai_line(struct buffer *out, const struct result_row *row);

/* `arena` holds what is read of the row. False: its response is no JSON, and its text is left empty. */
bool results_csv_line(struct buffer *out, struct arena *arena, const struct result_row *row);

/* ---- pieces, for other lines of CSV ---- */

void results_csv_text(struct buffer *out, struct slice text); /* a cell of somebody's text */
void results_csv_time(struct buffer *out, int64_t unix_us);   /* 2026-01-31T23:59:59.123456Z */

/* What a row says: {NULL, 0} where it says nothing of the kind. */
struct result_words {
    struct slice content; /* of the first choice */
    struct slice finish_reason;
    struct slice embedding; /* as it stands in the response */
    struct slice error_code, error_message;
};

/* The words lie in the arena or in the row. False: something of the row is no JSON. */
bool results_words(struct arena *arena, const struct result_row *row, struct result_words *ret);

#endif
