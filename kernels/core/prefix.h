/*
 * prefix.h: what sequences of one group have in common. A tree of whole blocks: a node is 32 ids
 * after those of its parent, and each sequence's prompt is a path from the root. Ids are compared;
 * a hash only says where to look.
 *
 * A node has a KV block from when the rows that fill it are planned (steps run in order, and within
 * one K and V are written before they are read) until that memory is wanted for something else. A
 * sequence passes along its path: it takes over a block that is there, or has it computed.
 *
 * KEPT A block that no table has stays where it is. There are two lists of those, oldest first: of
 * nodes that sequences in the engine have before them (wanted), and of all others (idle). Paths enter
 * the lists deepest node first, so a node's block goes before its parent's: what is left of a path
 * is always its beginning.
 */
#ifndef MSERVE_KERNELS_CORE_PREFIX_H
#define MSERVE_KERNELS_CORE_PREFIX_H

#include "kernels/core/group.h"
#include "kernels/core/kv.h"
#include "kernels/device.h"

#include <stdbool.h>
#include <stdint.h>

struct sequence;

enum prefix_kept { PREFIX_IDLE, PREFIX_WANTED, PREFIX_KEPT };

struct prefix_node {
    struct group *group;
    uint64_t hash;
    uint32_t parent;       /* KV_NONE: the group's root */
    uint32_t next;         /* in its hash chain; of a free node, the next free one */
    uint32_t block;        /* KV_NONE: nobody has computed it, or it is gone again */
    uint32_t pending;      /* sequences in the engine that have it before them */
    uint32_t older, newer; /* in its list, while it is kept */
    bool begun;            /* somebody has computed a part of it */
    bool wanted;           /* which list */
    uint32_t ids[DEVICE_BLOCK_TOKENS];
};

struct prefix_list {
    uint32_t oldest, newest;
    uint32_t len;
};

struct prefix {
    struct kv *kv;
    struct groups *groups;
    struct prefix_node *node;
    uint32_t cap;
    uint32_t free; /* first of the free nodes */
    uint32_t len;  /* nodes in use */
    uint32_t *head;
    uint32_t mask;
    struct prefix_list kept[PREFIX_KEPT];
};

void prefix_init(struct prefix *prefix, struct kv *kv, struct groups *groups);
void prefix_release(struct prefix *prefix);

/* Finds or makes the path of its prompt: all whole blocks but one that holds the last id. */
void prefix_join(struct prefix *prefix, struct sequence *sequence);

/* The sequence has ended; blocks that its table has stay there. */
void prefix_part(struct prefix *prefix, struct sequence *sequence);

/* It was evicted and has its path before it again; before its table is given back. */
void prefix_restart(struct prefix *prefix, struct sequence *sequence);

/* Blocks at the beginning of its path that are there: in tables, and kept. */
void prefix_ready(const struct prefix *prefix, const struct sequence *sequence, uint32_t *ret_used,
                  uint32_t *ret_kept);

/* Takes over what is there from where it stands, into its table. Returns the number of blocks. */
uint32_t prefix_take(struct prefix *prefix, struct sequence *sequence, uint32_t *table);

/* True when another is in the middle of the block that it would begin. */
bool prefix_must_wait(const struct prefix *prefix, const struct sequence *sequence);

/* From where it stands on, rows that others of the group have before them too; 0: its own. */
uint32_t prefix_common_rows(const struct prefix *prefix, const struct sequence *sequence);

/* Rows up to sequence->computed were planned: their blocks in `table` are there for all. */
void prefix_put(struct prefix *prefix, struct sequence *sequence, const uint32_t *table);

/* Gives a table back, the tail first. */
void prefix_give_back(struct prefix *prefix, const uint32_t *table, uint32_t len, bool leaving);

/* Takes the block that was kept longest, for one table; of the wanted ones only when `all`. */
bool prefix_reclaim(struct prefix *prefix, bool all, uint32_t *ret_block);

#endif
