/* streams.c: open() gives the lowest number that is free, so the three are filled in order. */
#include "config/streams.h"
#include "config/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void streams_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(err_exit_status(ERR_IO)); /* nowhere is there a place to say so */
}

enum err streams_flush(void)
{
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail(ERR_IO, "cannot write to standard output: %s", strerror(errno));
    return ERR_OK;
}
