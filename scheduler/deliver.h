/*
 * deliver.h: events go out to people's endpoints: claimed from the outbox, signed, sent, and what came
 * of it written down.
 *
 * Two threads. The clerk talks to PostgreSQL: it records what ended, then claims what is due and there
 * is room for. The loop sends. Neither waits for the other: parcels (scheduler/parcel.h) go to and fro
 * between them in two queues. While PostgreSQL is away nothing new is claimed, and what came of attempts
 * is kept until it is back; a lease that ends meanwhile means at worst that an event comes twice, with
 * its id.
 *
 * Any number of schedulers may deliver at once: only the leases of the outbox keep them apart.
 */
#ifndef MSERVE_SCHEDULER_DELIVER_H
#define MSERVE_SCHEDULER_DELIVER_H

#include "config/errors.h"
#include "config/settings.h"
#include "sql/db.h"

#include <stdint.h>

struct deliver_options {
    struct db_options db;                   /* its strings, */
    const struct settings_webhook *webhook; /* and these outlive it */
};

struct deliver;

/*
 * *ret is NULL, and the log says so, where webhook.key_file is not set: nothing is delivered. ERR_SETTINGS:
 * the key, webhook.retries or webhook.private_networks cannot be used.
 */
enum err deliver_start(const struct deliver_options *options, struct deliver **ret);

/*
 * Claims nothing more, waits up to 5 s for what is under way, gives back the rest, records it all and
 * ends. NULL is allowed.
 */
void deliver_stop(struct deliver *deliver);

/* How it goes; any thread. */
struct deliver_health {
    enum err last;     /* of the clerk's last round */
    uint64_t good_ns;  /* when one last went well; 0: never yet */
    uint64_t moved_ns; /* when one began or ended */
};

void deliver_look(const struct deliver *deliver, struct deliver_health *ret);

#endif
