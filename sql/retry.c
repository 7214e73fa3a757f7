/* retry.c: one query each; the protocol is on the server. */
#include "sql/retry.h"

#include "sql/queries.h"

enum err job_set_hold(struct db *db, const struct uuid *job, bool hold, struct job_hold *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_JOB_SET_HOLD,
                          DB_PARAMS(db_uuid(job), hold ? db_text("paused") : db_null()), &result);

    if (rc)
        return rc;
    if (result.rows == 0 || db_is_null(&result, 0, 0))
        rc = ERR_NOT_FOUND;
    else
        rc = job_state_parse(db_get_slice(&result, 0, 0), &ret->state);
    if (!rc)
        ret->held = db_get_bool(&result, 0, 1);
    db_result_release(&result);
    return rc;
}
