/* health.c: a table of the Xids that make a card sick, and the counters that do. */
#include "kernels/cuda/health.h"

#include <inttypes.h>
#include <stdio.h>

/*
 * From NVIDIA's catalogue of Xids (docs.nvidia.com/deploy/xid-errors), those whose first remedy there
 * is a reset of the card, or its replacement. Left out as the program's own or as news alone:
 * 13 (exception in a kernel), 31 (page fault), 43 (the channel was stopped), 45 (cleaned up after
 * another), 63 (a row will be remapped), 92 (many errors that ECC corrected), 154 (what to do next).
 */
static const struct {
    uint32_t xid;
    const char *words;
} sick_xids[] = {
    {46, "the GPU stopped processing"},
    {48, "a memory error that ECC could not correct"},
    {62, "its power controller halted"},
    {64, "a failing row of its memory could not be remapped"},
    {74, "an NVLink failed"},
    {79, "it fell off the bus"},
    {94, "a memory error that ECC could not correct, contained to one program"},
    {95, "a memory error that ECC could not correct, and not contained"},
    {119, "its system processor (GSP) did not answer"},
    {120, "its system processor (GSP) failed"},
    {140, "a memory error that it did not recover from"},
    {143, "it could not be initialised"},
};

const char *health_of_xid(uint32_t xid)
{
    for (size_t i = 0; i < sizeof(sick_xids) / sizeof(sick_xids[0]); i++)
        if (sick_xids[i].xid == xid)
            return sick_xids[i].words;
    return NULL;
}

bool health_is_sick(const struct nvml_reading *first, const struct nvml_reading *now, char *why,
                    size_t why_size)
{
    for (uint32_t i = 0; i < now->xids; i++) {
        const char *words = health_of_xid(now->xid[i]);

        if (words) {
            snprintf(why, why_size, "Xid %" PRIu32 ": %s", now->xid[i], words);
            return true;
        }
    }
    if (now->lost)
        snprintf(why, why_size, "it does not answer any more (it fell off the bus)");
    else if (now->reset_required)
        snprintf(why, why_size, "the driver wants it reset");
    else if (now->has & NVML_HAS_REMAPPED && now->remap_failed)
        snprintf(why, why_size, "a failing row of its memory could not be remapped");
    else if (now->has & first->has & NVML_HAS_ECC && now->ecc_uncorrected > first->ecc_uncorrected)
        snprintf(why, why_size, "%" PRIu64 " memory errors that ECC could not correct, since %s",
                 now->ecc_uncorrected - first->ecc_uncorrected, "this worker has had it");
    else
        return false;
    return true;
}
