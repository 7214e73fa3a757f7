/*
 * spill.h: a run of bytes that stays in memory while it is small and goes to a file without a name
 * when it is not. So a submitter holds 20 million lines' worth of notes in constant memory, and
 * leaves nothing behind however it ends.
 *
 * ERRORS ERR_IO, logged with a sentence that names the folder and what was to be kept there.
 * One thread uses a spill at a time.
 */
#ifndef MSERVE_PRODUCER_SPILL_H
#define MSERVE_PRODUCER_SPILL_H

#include "config/errors.h"

#include <stddef.h>
#include <stdint.h>

struct spill;

/*
 * `what` is for error sentences ("the index of the lines"). Both strings are borrowed for the
 * spill's life. Opens no file before more than `memory_bytes` were appended.
 */
struct spill *spill_new(const char *dir, const char *what, size_t memory_bytes);
void spill_free(struct spill *spill); /* NULL is allowed */

uint64_t spill_size(const struct spill *spill);
enum err spill_append(struct spill *spill, const void *data, size_t len);

/* Bytes at .. at + len, which must lie inside. */
enum err spill_read(struct spill *spill, uint64_t at, void *ret, size_t len);
enum err spill_write(struct spill *spill, uint64_t at, const void *data, size_t len);

#endif
