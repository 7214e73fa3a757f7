/* submit_main.c: mserve-submit: from the command line to the exit status. */
#include "config/failpoint.h"
#include "producer/interrupt.h"
#include "producer/submit_command.h"

int main(int argc, char **argv)
{
    struct options_rest rest;
    struct cli cli;
    enum err rc;

    cli_init(&cli, "mserve-submit");
    interrupt_catch();
    rc = options_parse(NULL, &submit_command, argc, argv, &rest);
    if (rc != ERR_OK || rest.served)
        return err_exit_status(rc != ERR_OK ? rc : cli_flush());
    submit_typed.file = rest.count > 0 ? rest.argument[0] : NULL;
    rc = FAILPOINTS_START("mserve-submit");
    if (rc == ERR_OK)
        rc = cli_load(&cli, submit_config);
    if (rc == ERR_OK)
        rc = submit_run(&cli, &submit_typed);
    cli_close(&cli);
    return err_exit_status(rc);
}
