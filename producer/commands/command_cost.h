/* command_cost.h: the bill of a month, which `mserve cost --by` prints. */
#ifndef MSERVE_PRODUCER_COMMAND_COST_H
#define MSERVE_PRODUCER_COMMAND_COST_H

#include "producer/cli.h"

enum cost_form { COST_TABLE, COST_CSV, COST_JSON };

/*
 * Prints who bore the device time of a month: `by` is tenant, model, capacity or tag:KEY, `month`
 * is YYYY-MM, in UTC; NULL: this month. ERR_USAGE, with a sentence, when one of them is not.
 */
enum err cost_by(struct cli *cli, const char *by, const char *month, enum cost_form form);

#endif
