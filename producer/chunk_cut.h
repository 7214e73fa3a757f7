/*
 * chunk_cut.h: where one chunk ends and the next begins. Decided by the lengths of bodies and the
 * limits kept in the job alone, so that every run of the same command cuts the same way.
 *
 * Pure functions of their arguments; any thread.
 */
#ifndef MSERVE_PRODUCER_CHUNK_CUT_H
#define MSERVE_PRODUCER_CHUNK_CUT_H

#include <stdbool.h>
#include <stdint.h>

/* Lines of a chunk of a new job: four chunks a partition, but min .. max lines each. */
uint32_t chunk_cut_lines(uint64_t requests, uint32_t partitions, uint32_t min, uint32_t max);

/* {.lines_max = …, .bytes_max = …} is at the beginning of a job. */
struct chunk_cut {
    uint32_t lines_max;
    uint32_t bytes_max;
    uint32_t lines; /* of the chunk so far */
    uint64_t bytes;
};

/*
 * Takes the next request, of `body_bytes` (0 for one that is not valid). True when it begins a new
 * chunk, as the first does. A body larger than bytes_max makes a chunk of its own.
 */
bool chunk_cut_next(struct chunk_cut *cut, uint64_t body_bytes);

#endif
