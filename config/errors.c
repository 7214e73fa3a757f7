/* errors.c: the rows of errors.h as lookups. */
#include "config/errors.h"

#include <stddef.h>

static const struct row {
    const char *name;
    const char *phrase;
    int exit_status;
    bool may_retry;
} rows[ERR_COUNT] = {
#define X(name, exit, retry, phrase) {#name, phrase, exit, retry},
    ERRORS(X)
#undef X
};

static const struct row *find(enum err err)
{
    static const struct row unknown = {"?", "an unknown error", 70, false};

    return (unsigned)err < ERR_COUNT ? &rows[err] : &unknown;
}

const char *err_name(enum err err)
{
    return find(err)->name;
}

const char *err_phrase(enum err err)
{
    return find(err)->phrase;
}

bool err_may_retry(enum err err)
{
    return find(err)->may_retry;
}

int err_exit_status(enum err err)
{
    return find(err)->exit_status;
}
