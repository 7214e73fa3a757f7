/*
 * tenant_erase.h: `mserve tenant erase`: ends the jobs of a tenant, erases what it sent and got, and says
 * what is left and until when.
 */
#ifndef MSERVE_PRODUCER_TENANT_ERASE_H
#define MSERVE_PRODUCER_TENANT_ERASE_H

#include "producer/cli.h"

#include <stdint.h>

/*
 * Waits up to `wait_ms` for jobs to end. ERR_AGAIN, with a list: some have not; nothing of theirs is erased
 * yet. ERR_INTERRUPTED, ERR_NOT_FOUND, and what Kafka answers: in each case the same command goes on.
 */
enum err tenant_erase(struct cli *cli, const char *tenant, uint64_t wait_ms);

#endif
