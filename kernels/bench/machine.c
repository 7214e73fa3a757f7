/* machine.c: reads /proc. */
#include "kernels/bench/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/times.h>

static const char *const wanted[] = {"sse2",     "avx",         "avx2",        "fma",
                                     "f16c",     "avx_vnni",    "avx512f",     "avx512bw",
                                     "avx512vl", "avx512_vnni", "avx512_bf16", "amx_int8"};

/* What follows the colon of a line of /proc/cpuinfo, without the newline. */
static const char *value_of(char *line)
{
    char *colon = strchr(line, ':');

    line[strcspn(line, "\n")] = '\0';
    return colon == NULL || colon[1] == '\0' ? "" : colon + 2;
}

static void keep_instructions(struct machine *machine, const char *flags)
{
    size_t len = 0;

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        const size_t word_len = strlen(wanted[i]);

        for (const char *at = flags; (at = strstr(at, wanted[i])) != NULL; at += word_len)
            if ((at == flags || at[-1] == ' ') && (at[word_len] == ' ' || at[word_len] == '\0')) {
                len += (size_t)snprintf(machine->instructions + len,
                                        sizeof(machine->instructions) - len, "%s%s",
                                        len > 0 ? " " : "", wanted[i]);
                break;
            }
    }
}

static void read_line(struct machine *machine, char *line)
{
    if (strncmp(line, "model name", 10) == 0 && machine->cpu[0] == '\0')
        snprintf(machine->cpu, sizeof(machine->cpu), "%s", value_of(line));
    else if (strncmp(line, "cpu family", 10) == 0)
        machine->family = (uint32_t)strtoul(value_of(line), NULL, 10);
    else if (strncmp(line, "model\t", 6) == 0)
        machine->model = (uint32_t)strtoul(value_of(line), NULL, 10);
    else if (strncmp(line, "flags", 5) == 0 && machine->instructions[0] == '\0')
        keep_instructions(machine, value_of(line));
}

void machine_describe(struct machine *ret)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    cpu_set_t allowed;
    size_t size = 0;
    char *line = NULL;

    *ret = (struct machine){.cores = 1};
    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0)
        ret->cores = (uint32_t)CPU_COUNT(&allowed);
    if (file == NULL)
        return;
    while (getline(&line, &size, file) > 0)
        read_line(ret, line);
    free(line);
    fclose(file);
}

struct machine_load machine_load(void)
{
    /* user, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen */
    unsigned long long tick[8] = {0};
    struct machine_load load = {0};
    FILE *file = fopen("/proc/stat", "r");
    struct tms own;

    times(&own);
    load.own = (uint64_t)own.tms_utime + (uint64_t)own.tms_stime;
    if (file == NULL)
        return load;
    if (fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &tick[0], &tick[1], &tick[2],
               &tick[3], &tick[4], &tick[5], &tick[6], &tick[7]) == 8)
        for (int i = 0; i < 8; i++) {
            load.all += tick[i];
            load.busy += i == 3 || i == 4 ? 0 : tick[i];
        }
    fclose(file);
    return load;
}

double machine_others(const struct machine_load *from, const struct machine_load *to)
{
    const uint64_t all = to->all - from->all, busy = to->busy - from->busy,
                   own = to->own - from->own;

    return all == 0 || busy <= own ? 0.0 : (double)(busy - own) / (double)all;
}
