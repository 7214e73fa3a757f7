/* guard_memory.h: how often the kernel has killed for want of memory, where this process lives. */
#ifndef MSERVE_CONSUMER_GUARD_MEMORY_H
#define MSERVE_CONSUMER_GUARD_MEMORY_H

#include <stdint.h>

/* In this process's memory cgroup, or, where that cannot be read, on the machine; 0: it is not said. */
uint64_t guard_oom_kills(void);

#endif
