/*
 * document_split_places.h: how good a place in a text is to cut it.
 *
 * Pure functions of UTF-8 text; any thread.
 */
#ifndef MSERVE_PRODUCER_DOCUMENT_SPLIT_PLACES_H
#define MSERVE_PRODUCER_DOCUMENT_SPLIT_PLACES_H

#include "config/buffer.h"

#include <stdint.h>

/* From bad to good. What ends before the place, with the blanks and line ends that follow it. */
enum place {
    PLACE_NONE,      /* inside a character, or between CR and LF */
    PLACE_CHARACTER, /* between two characters */
    PLACE_WORD,      /* after blanks */
    PLACE_SENTENCE,  /* after its full stop and blanks; in Chinese, Japanese: after the stop */
    PLACE_LINE,
    PLACE_PARAGRAPH, /* after a blank line; both ends of the text */
};

enum place place_at(struct slice text, size_t at);

/*
 * The best place of (low, high], of several the last; high itself where the range has none but
 * PLACE_NONE. low < high <= text.len. Looks at each byte of the range a few times.
 */
size_t place_last(struct slice text, size_t low, size_t high);

/* The best place of [low, high), of several the first; low itself where it has none. */
size_t place_first(struct slice text, size_t low, size_t high);

#endif
