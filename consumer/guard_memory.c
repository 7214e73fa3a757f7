/* guard_memory.c: the kernel's counters: memory.events (cgroup 2), memory.oom_control (1), vmstat. */
#include "consumer/guard_memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* The line "oom_kill N" of such a file. */
static bool read_count(const char *path, uint64_t *ret)
{
    FILE *file = fopen(path, "re");
    char line[256];
    bool found = false;

    if (!file)
        return false;
    while (!found && fgets(line, sizeof line, file))
        found = sscanf(line, "oom_kill %" SCNu64, ret) == 1;
    fclose(file);
    return found;
}

/* A line of /proc/self/cgroup is number:controllers:path; that of cgroup 2 names no controller. */
static bool counter_of(const char *line, char path[PATH_MAX])
{
    const char *controllers = strchr(line, ':');
    const char *group = controllers ? strchr(controllers + 1, ':') : NULL;
    int len;

    if (!group)
        return false;
    group++;
    len = (int)strcspn(group, "\n");
    if (strncmp(controllers, "::", 2) == 0)
        return snprintf(path, PATH_MAX, "/sys/fs/cgroup%.*s/memory.events", len, group) < PATH_MAX;
    if (strncmp(controllers, ":memory:", 8) == 0)
        return snprintf(path, PATH_MAX, "/sys/fs/cgroup/memory%.*s/memory.oom_control", len,
                        group) < PATH_MAX;
    return false;
}

uint64_t guard_oom_kills(void)
{
    FILE *groups = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX], path[PATH_MAX];
    uint64_t count = 0;
    bool found = false;

    while (groups && !found && fgets(line, sizeof line, groups))
        found = counter_of(line, path) && read_count(path, &count);
    if (groups)
        fclose(groups);
    if (!found)
        read_count("/proc/vmstat", &count);
    return count;
}
