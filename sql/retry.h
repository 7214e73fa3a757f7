/*
 * retry.h: what becomes of jobs behind their submission: they are paused and go on, their failed
 * lines are retried as another job, and one day they are purged.
 *
 * Only jobs of the connection's tenant are touched. Errors as in db.h.
 */
#ifndef MSERVE_SQL_RETRY_H
#define MSERVE_SQL_RETRY_H

#include "sql/job.h"

/* What job_set_hold() found or made. */
struct job_hold {
    enum job_state state;
    bool held; /* now */
};

/*
 * Pauses a job, or lets it go on. One that has ended, or is to end, stays as it is: *ret says so.
 * ERR_NOT_FOUND, not logged.
 */
enum err job_set_hold(struct db *db, const struct uuid *job, bool hold, struct job_hold *ret);

#endif
