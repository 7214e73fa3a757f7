/*
 * streams.h: descriptors 0, 1 and 2, which a program may have been started without.
 */
#ifndef MSERVE_CONFIG_STREAMS_H
#define MSERVE_CONFIG_STREAMS_H

#include "config/errors.h"

/*
 * The first call of every main(). Where a caller closed one of the three (`mserve list >&-`), the
 * next file or socket that is opened would get its number, and what is printed would go there. So the
 * number is taken, by /dev/null opened the wrong way round: reading or writing fails with EBADF, as
 * it would have, and is reported as any other failure.
 */
void streams_open(void);

/* Flushes standard output: ERR_IO, with a sentence, when anything could not be written. */
enum err streams_flush(void);

#endif
