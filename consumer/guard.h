/*
 * guard.h: the parent process of a worker. It holds nothing: no lease, no device, no thread, and a
 * connection to the database only while it buries. It waits for the child, which does the work, sees
 * how it ends, closes its books at once with what the recorder says, and starts it again.
 *
 * WHAT THE END SAYS
 *   GUARD_LEFT           it exited. Its status is passed through, and with it the guard ends; what an
 *                        exit in a hurry left open is buried.
 *   GUARD_CRASHED        SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP or SIGSYS of its own: proven
 *   GUARD_OUT_OF_MEMORY  SIGKILL, and the kernel counted a kill for want of memory in the last minute
 *                        before: proven
 *   GUARD_HUNG           the device did not move for worker.hung_after; the guard killed it: proven
 *   GUARD_KILLED         any other signal: somebody sent it. It proves nothing.
 *
 * WHOM IT ACCUSES What was in the engine, where the thread that crashed was the device's or is not
 * known; where it was intake, the request that it was making ready, alone; where it was another, nobody.
 *
 * SIGTERM, SIGINT and SIGUSR1 are passed on. When the guard itself is gone the child gets SIGTERM. A
 * child that was stopped (SIGSTOP) does not hang; nor does one that is still loading its model.
 *
 * It starts the child again after a pause that doubles with each death, from a quarter of a second to
 * worker.restart_max, and is short again once a child has worked for a while. A child that dies before it
 * has registered, GUARD_TRIES_MAX times in a row, is given up: exit status 13 (ERR_CRASHES).
 */
#ifndef MSERVE_CONSUMER_GUARD_H
#define MSERVE_CONSUMER_GUARD_H

#include "config/errors.h"
#include "config/settings.h"
#include "consumer/recorder.h"
#include "sql/quarantine.h"

#include <stdbool.h>
#include <stdint.h>

enum { GUARD_TRIES_MAX = 5, GUARD_PAUSE_MIN_MS = 250, GUARD_KILLS_MS = 30000 };

struct guard_options {
    const struct settings *settings;
    struct recorder *recorder;
    int (*work)(void *context); /* in the child; its value is the exit status of the program */
    void *context;
};

/*
 * Forks. Returns twice and more: in each child what work() returned, in the parent the exit status of
 * the program. Before any thread is made.
 */
int guard_run(const struct guard_options *options);

/* --------------------------------------------------------- the decisions, for guard.c and tests ---- */

enum guard_end { GUARD_LEFT, GUARD_CRASHED, GUARD_OUT_OF_MEMORY, GUARD_HUNG, GUARD_KILLED };

struct guard_death {
    enum guard_end end;
    int status; /* of GUARD_LEFT */
    int signal; /* of the others */
};

/*
 * `wait_status` as waitpid() gives it. `killed`: we killed it, because it hung. `oom_kills`: how many
 * the kernel counted in the last moments. `sender`: the process that sent the signal, as the child noted; 0: none.
 */
struct guard_death guard_judge(int wait_status, bool killed, uint64_t oom_kills, int sender);

/*
 * Kills for want of memory, as the kernel counts them: of all of the cgroup or the host, so only those
 * of the last moments say something of this death. `before` is what the count was a while ago.
 */
struct guard_kills {
    uint64_t before;
    uint64_t recent;
    uint64_t recent_ms; /* since `recent` was counted */
};
void guard_age_kills(struct guard_kills *kills, uint64_t passed_ms, uint64_t (*count)(void));

/* "crashed" as attempts.why has it. */
const char *guard_ended(enum guard_end end);
bool guard_is_proof(enum guard_end end);

/*
 * What the recorder says of a worker that ended so, for the burial; fills requests[cap]. Texts point
 * into the recorder.
 */
void guard_describe(const struct recorder *recorder, const struct guard_death *death,
                    struct burial_request *requests, uint32_t cap, struct burial *ret);

/* Before the next child, after so many deaths in a row. */
uint64_t guard_pause_ms(uint32_t deaths, uint64_t max_ms);

/*
 * The watch over a device that may hang: fed with the count of its moves, says since when they are the
 * same. Ticks that come late (a machine that slept) count as one.
 */
struct guard_watch {
    uint64_t moves;
    uint64_t still_ms;
};
bool guard_is_hung(struct guard_watch *watch, uint64_t moves, uint64_t passed_ms,
                   uint64_t hung_after_ms);

#endif
