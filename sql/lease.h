/*
 * lease.h: a worker's right to what it holds: its row with a lease, and the partitions it owns.
 *
 * A worker renews on a connection of its own, so that a commit never delays a renewal longer than
 * that commit holds the worker's row. Time is the database's; a caller counts its lease from before
 * it *sent* the renewal.
 *
 * ERR_LOST, not logged, means everywhere: this worker is buried, or the database went back behind
 * what it had confirmed. It drops all it holds and registers anew, under a new id.
 */
#ifndef MSERVE_SQL_LEASE_H
#define MSERVE_SQL_LEASE_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

/* Who registers. Strings are borrowed; NULL is allowed where it says so. */
struct lease_spec {
    const char *name;
    const char *host;
    int32_t pid;
    const struct slice *topics; /* whose partitions it claims */
    size_t topics_count;
    const char *device;          /* "cpu", a GPU's name, or "none": writes no results of its own */
    const char *model;           /* NULL: none */
    const uint8_t *model_digest; /* 32 bytes, NULL: none */
    const char *numerics;        /* NULL: none */
    double price_per_hour;
    double price_on_demand_per_hour; /* of the same device; 0: not said */
    const char *currency;
    const char *capacity; /* spot, on_demand or reserved; NULL or "": not said */
    uint64_t lease_ms;
    struct uuid follows; /* who it was before it was buried: an operator's wish that this one leave
                          * is for it; zeros: nobody */
};

struct lease {
    struct uuid worker;
    int64_t token;
    uint64_t lease_ms;
};

enum err lease_register(struct db *db, const struct lease_spec *spec, struct lease *ret);

/*
 * Extends the lease by lease_ms from now. `seq` is the highest number of a commit that is known to
 * have landed before this call (0: none): a row behind it is a database that went back, ERR_LOST.
 * `reported_ns` is the device time held so far: what a burial books if this was the last word.
 */
enum err lease_renew(struct db *db, const struct lease *lease, int64_t seq, uint64_t reported_ns);

struct lease_partition {
    int32_t part;
    int64_t epoch;
    int64_t token;
};

/*
 * Claims up to `wanted` partitions of the topic that have no owner: ret[*ret_count], at most
 * `wanted`. What is done and checkpointed there is read after this call, never before.
 */
enum err lease_claim(struct db *db, const struct lease *lease, const char *topic, uint32_t wanted,
                     struct lease_partition *ret, uint32_t *ret_count);

/* The same for one given partition; ERR_AGAIN, not logged: it has an owner. */
enum err lease_claim_one(struct db *db, const struct lease *lease, const char *topic, int32_t part,
                         struct lease_partition *ret);

/* Frees partitions in which nothing is under way. Those that are not ours are passed over. */
enum err lease_release(struct db *db, const struct lease *lease, const char *topic,
                       const int32_t *parts, size_t count);

/*
 * How many partitions of the topic this worker should hold, of `*ret_partitions`: those that live,
 * do not drain and claim this topic share them evenly, to the last one.
 */
enum err lease_share(struct db *db, const struct lease *lease, const char *topic,
                     uint32_t *ret_share, uint32_t *ret_partitions);

/*
 * The partitions that the table says are this worker's, in order: ret[*ret_count], `cap` at most. Where
 * the reply to a claim or a release was lost, they are not those that it knows of.
 */
enum err lease_owned(struct db *db, const struct lease *lease, const char *topic, int32_t *ret,
                     uint32_t cap, uint32_t *ret_count);

/* From now on others count without this worker; its row says by when it will be gone, and why. */
enum err lease_drain(struct db *db, const struct lease *lease, uint64_t within_ms, const char *why);

/*
 * Whether an operator wants this worker to leave, and how much time that leaves it. ERR_NOT_FOUND,
 * not logged: nobody does.
 */
enum err lease_wish(struct db *db, const struct lease *lease, uint64_t *ret_left_ms);

/*
 * Closes the worker's own books, exactly: what is in progress and what was held since the last
 * commit is lost; frees its partitions. `why` is drained, history or error. ERR_OK also when it was
 * buried before.
 *
 * Each burial writes `attempts` rows: one for each checkpoint that the worker wrote in a partition it
 * holds, with what was kept, unless the worker has told of that attempt itself, and one for each job
 * with what was lost; of a worker that leaves drained they say `preempted`.
 */
enum err lease_leave(struct db *db, const struct lease *lease, uint64_t held_ns, const char *why);

/*
 * Buries all workers whose lease ran out, each in a transaction of its own; one whose commit is in
 * flight is waited for up to the connection's lock time-out and then left for the next time.
 * *ret_count (may be NULL): how many.
 */
enum err lease_bury_expired(struct db *db, uint32_t *ret_count);

#endif
