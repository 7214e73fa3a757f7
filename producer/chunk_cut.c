/* chunk_cut.c: a chunk is full when one more line would pass a limit. */
#include "producer/chunk_cut.h"

uint32_t chunk_cut_lines(uint64_t requests, uint32_t partitions, uint32_t min, uint32_t max)
{
    uint64_t lines = requests / (4 * (uint64_t)partitions);

    if (lines < min)
        lines = min;
    return lines < max ? (uint32_t)lines : max;
}

bool chunk_cut_next(struct chunk_cut *cut, uint64_t body_bytes)
{
    bool begins =
        cut->lines == 0 || cut->lines == cut->lines_max || cut->bytes + body_bytes > cut->bytes_max;

    if (begins) {
        cut->lines = 0;
        cut->bytes = 0;
    }
    cut->lines++;
    cut->bytes += body_bytes;
    return begins;
}
