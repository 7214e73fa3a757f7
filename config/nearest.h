/*
 * nearest.h: "did you mean": how far apart two words are.
 */
#ifndef MSERVE_CONFIG_NEAREST_H
#define MSERVE_CONFIG_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

/*
 * How many letters must be added, dropped, changed or swapped with their neighbour to make `b` of
 * `a`. Words of more than 63 bytes are as far apart as can be (SIZE_MAX).
 */
size_t word_distance(const char *a, const char *b);

/* Whether `b` is near enough to `a` to be what was meant: a third of the letters at most. */
bool word_is_near(const char *a, const char *b, size_t distance);

#endif
