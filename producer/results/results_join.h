/*
 * results_join.h: parts of documents, in order, put together again: one line a document.
 *
 * A document is written when the last of its parts has come; one of which a part has no row is passed
 * over. What a line holds stands in docs/results.md. Memory: one document. One thread.
 */
#ifndef MSERVE_PRODUCER_RESULTS_JOIN_H
#define MSERVE_PRODUCER_RESULTS_JOIN_H

#include "config/buffer.h"
#include "config/json.h"
#include "producer/results/results_rows.h"

#include <stdbool.h>
#include <stdint.h>

struct results_join {
    int64_t first_line; /* of the document under way; -1: none */
    int32_t parts, here, completed;
    struct buffer path, text, responses;
    bool has_text;
    int64_t input_tokens, output_tokens, gpu_ns, finished_us;
    struct buffer error_code, error_message; /* the first */
    bool has_error;
    uint32_t unreadable; /* parts whose words are no JSON */
};

extern const char results_join_heading[]; /* of CSV, with its newline */

void results_join_init(struct results_join *join);
void results_join_release(struct results_join *join);

/* True when its document is whole now: it is to be written before the next is added. */
bool results_join_add(struct results_join *join, struct arena *arena, const struct result_row *row);

/* Every part completed. */
static inline bool results_join_completed(const struct results_join *join)
{
    return join->completed == join->parts;
}

void results_join_line(const struct results_join *join, struct buffer *out,
                       enum results_format format);

#endif
