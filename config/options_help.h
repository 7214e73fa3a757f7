/*
 * options_help.h: what config/options*.c share about the rows of a table.
 */
#ifndef MSERVE_CONFIG_OPTIONS_HELP_H
#define MSERVE_CONFIG_OPTIONS_HELP_H

#include "config/buffer.h"
#include "config/options.h"

/* Whether `text` is one of "a|b|c". */
bool options_is_choice(const char *choices, const char *text);

/* How often an option of PAIRS or LIST may be given. */
uint32_t options_items_max(const struct option *row);

/* "one of a, b or c", "a whole number from 1 to 9": the end of a sentence on a bad value. */
void options_add_allowed(const struct option *row, struct buffer *buffer);

void options_print_version(const char *program, FILE *out);

#endif
