/*
 * webhook_secret_file.h: the file by which a secret of webhooks changes hands: a person puts it there, or
 * finds a new one there. So it is on no command line and on no screen.
 */
#ifndef MSERVE_PRODUCER_WEBHOOK_SECRET_FILE_H
#define MSERVE_PRODUCER_WEBHOOK_SECRET_FILE_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/webhook_secret.h"

#include <stdbool.h>

/*
 * Adds the secret of the file at `path` to *ret, as text, which the caller wipes. Where there is no file,
 * a new secret of that kind is written there, with mode 0600, and *ret_made is true. ERR_SETTINGS or
 * ERR_USAGE, in a sentence that does not show it: others may read the file, or it holds no secret of
 * that kind.
 */
enum err webhook_secret_file_take(const char *path, enum webhook_secret_kind kind,
                                  struct buffer *ret, bool *ret_made);

#endif
