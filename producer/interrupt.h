/*
 * interrupt.h: ^C and SIGTERM, seen by loops between two pieces of work. A second signal ends the
 * program at once: whatever is killed, the same command goes on where it stopped.
 */
#ifndef MSERVE_PRODUCER_INTERRUPT_H
#define MSERVE_PRODUCER_INTERRUPT_H

#include <stdbool.h>

/* Catches SIGINT and SIGTERM; SIGPIPE and SIGXFSZ are ignored, so that writes fail instead. */
void interrupt_catch(void);

bool interrupted(void);

#endif
