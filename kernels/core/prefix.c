/* prefix.c: nodes in an array, found by a hash of their ids and all before them. */
#include "kernels/core/prefix.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "kernels/core/sequence.h"

enum { BLOCK = DEVICE_BLOCK_TOKENS, NODES_MIN = 64 };

void prefix_init(struct prefix *prefix, struct kv *kv, struct groups *groups)
{
    *prefix = (struct prefix){.kv = kv, .groups = groups, .free = KV_NONE, .mask = NODES_MIN - 1};
    prefix->head = xcalloc(NODES_MIN, sizeof(*prefix->head));
    memset(prefix->head, 0xff, NODES_MIN * sizeof(*prefix->head));
    for (int i = 0; i < PREFIX_KEPT; i++)
        prefix->kept[i] = (struct prefix_list){.oldest = KV_NONE, .newest = KV_NONE};
}

void prefix_release(struct prefix *prefix)
{
    free(prefix->node);
    free(prefix->head);
    *prefix = (struct prefix){0};
}

static uint64_t hash_of(uint64_t before, const uint32_t *ids)
{
    for (uint32_t i = 0; i < BLOCK; i += 2) {
        before = (before ^ ids[i] ^ (uint64_t)ids[i + 1] << 32) * 0x9e6c63d0876a3f15u;
        before ^= before >> 29;
    }
    return before;
}

static uint32_t *head_of(const struct prefix *prefix, uint64_t hash)
{
    return &prefix->head[hash & prefix->mask];
}

/* Twice the nodes, and as many chains. */
static void grow(struct prefix *prefix)
{
    const uint32_t before = prefix->cap, cap = before > 0 ? 2 * before : NODES_MIN;

    prefix->node = xrealloc(prefix->node, cap, sizeof(*prefix->node));
    prefix->head = xrealloc(prefix->head, cap, sizeof(*prefix->head));
    prefix->cap = cap;
    prefix->mask = cap - 1;
    memset(prefix->head, 0xff, cap * sizeof(*prefix->head));
    for (uint32_t i = 0; i < before; i++) { /* all in use, or it would not grow */
        uint32_t *head = head_of(prefix, prefix->node[i].hash);

        prefix->node[i].next = *head;
        *head = i;
    }
    for (uint32_t i = cap; i > before; i--) {
        prefix->node[i - 1].next = prefix->free;
        prefix->free = i - 1;
    }
}

static uint32_t new_node(struct prefix *prefix, struct group *group, uint32_t parent, uint64_t hash,
                         const uint32_t *ids)
{
    uint32_t index, *head;

    if (prefix->free == KV_NONE)
        grow(prefix);
    index = prefix->free;
    prefix->free = prefix->node[index].next;
    head = head_of(prefix, hash);
    prefix->node[index] = (struct prefix_node){
        .group = group, .hash = hash, .parent = parent, .next = *head, .block = KV_NONE};
    memcpy(prefix->node[index].ids, ids, BLOCK * sizeof(*ids));
    *head = index;
    prefix->len++;
    group->nodes++;
    return index;
}

/* Nobody has it before them and there is no block: no use. */
static void drop_if_unused(struct prefix *prefix, uint32_t index)
{
    struct prefix_node *node = &prefix->node[index];
    uint32_t *at = head_of(prefix, node->hash);

    if (node->pending > 0 || node->block != KV_NONE)
        return;
    while (*at != index)
        at = &prefix->node[*at].next;
    *at = node->next;
    node->next = prefix->free;
    prefix->free = index;
    prefix->len--;
    node->group->nodes--;
    groups_tidy(prefix->groups, node->group);
}

static uint32_t find(const struct prefix *prefix, const struct group *group, uint32_t parent,
                     uint64_t hash, const uint32_t *ids)
{
    uint32_t index = *head_of(prefix, hash);

    while (index != KV_NONE) {
        const struct prefix_node *node = &prefix->node[index];

        if (node->hash == hash && node->parent == parent && node->group == group &&
            memcmp(node->ids, ids, sizeof(node->ids)) == 0)
            return index;
        index = node->next;
    }
    return KV_NONE;
}

static void keep(struct prefix *prefix, uint32_t index)
{
    struct prefix_node *node = &prefix->node[index];
    struct prefix_list *list;

    node->wanted = node->pending > 0;
    list = &prefix->kept[node->wanted ? PREFIX_WANTED : PREFIX_IDLE];
    node->older = list->newest;
    node->newer = KV_NONE;
    *(list->newest != KV_NONE ? &prefix->node[list->newest].newer : &list->oldest) = index;
    list->newest = index;
    list->len++;
}

static void unkeep(struct prefix *prefix, uint32_t index)
{
    const struct prefix_node *node = &prefix->node[index];
    struct prefix_list *list = &prefix->kept[node->wanted ? PREFIX_WANTED : PREFIX_IDLE];

    *(node->older != KV_NONE ? &prefix->node[node->older].newer : &list->oldest) = node->newer;
    *(node->newer != KV_NONE ? &prefix->node[node->newer].older : &list->newest) = node->older;
    list->len--;
}

static bool is_kept(const struct prefix *prefix, const struct prefix_node *node)
{
    return node->block != KV_NONE && prefix->kv->block[node->block].users == 0;
}

void prefix_join(struct prefix *prefix, struct sequence *sequence)
{
    struct group *group = sequence->group;
    const uint32_t len = (sequence->prompt_len - 1) / BLOCK;
    uint64_t hash = group->id * 0xc2b2ae3d27d4eb4fu;
    uint32_t parent = KV_NONE;

    sequence_reserve_path(sequence, len);
    sequence->path_len = len;
    sequence->path_at = 0;
    for (uint32_t i = 0; i < len; i++) {
        const uint32_t *ids = sequence->token + (size_t)i * BLOCK;
        uint32_t index;

        hash = hash_of(hash, ids);
        index = find(prefix, group, parent, hash, ids);
        if (index == KV_NONE)
            index = new_node(prefix, group, parent, hash, ids);
        prefix->node[index].pending++;
        sequence->path[i] = parent = index;
    }
    for (uint32_t i = len; i > 0; i--)
        if (is_kept(prefix, &prefix->node[sequence->path[i - 1]])) {
            unkeep(prefix, sequence->path[i - 1]);
            keep(prefix, sequence->path[i - 1]); /* wanted now, and used last */
        }
}

/* Whoever comes next begins the block that it was in the middle of. */
static void let_go(struct prefix *prefix, struct sequence *sequence)
{
    if (sequence->path_begun)
        prefix->node[sequence->path[sequence->path_at]].begun = false;
    sequence->path_begun = false;
}

void prefix_part(struct prefix *prefix, struct sequence *sequence)
{
    let_go(prefix, sequence);
    for (uint32_t i = sequence->path_len; i > sequence->path_at; i--) {
        const uint32_t index = sequence->path[i - 1];
        struct prefix_node *node = &prefix->node[index];

        node->pending--;
        if (is_kept(prefix, node)) {
            unkeep(prefix, index);
            keep(prefix, index);
        }
        drop_if_unused(prefix, index);
    }
    sequence->path_len = sequence->path_at = 0;
}

void prefix_restart(struct prefix *prefix, struct sequence *sequence)
{
    let_go(prefix, sequence);
    for (uint32_t i = 0; i < sequence->path_at; i++)
        prefix->node[sequence->path[i]].pending++;
    sequence->path_at = 0;
}

void prefix_ready(const struct prefix *prefix, const struct sequence *sequence, uint32_t *ret_used,
                  uint32_t *ret_kept)
{
    uint32_t used = 0, kept = 0;

    for (uint32_t i = sequence->path_at; i < sequence->path_len; i++) {
        const struct prefix_node *node = &prefix->node[sequence->path[i]];

        if (node->block == KV_NONE)
            break;
        if (is_kept(prefix, node))
            kept++;
        else
            used++;
    }
    *ret_used = used;
    *ret_kept = kept;
}

uint32_t prefix_take(struct prefix *prefix, struct sequence *sequence, uint32_t *table)
{
    const uint32_t from = sequence->path_at;

    while (sequence->path_at < sequence->path_len) {
        const uint32_t index = sequence->path[sequence->path_at];
        struct prefix_node *node = &prefix->node[index];

        if (node->block == KV_NONE)
            break;
        if (is_kept(prefix, node))
            unkeep(prefix, index);
        kv_share(prefix->kv, node->block);
        node->pending--;
        table[sequence->path_at++] = node->block;
    }
    return sequence->path_at - from;
}

bool prefix_must_wait(const struct prefix *prefix, const struct sequence *sequence)
{
    return sequence->path_at < sequence->path_len && !sequence->path_begun &&
           prefix->node[sequence->path[sequence->path_at]].begun;
}

uint32_t prefix_common_rows(const struct prefix *prefix, const struct sequence *sequence)
{
    uint32_t at = sequence->path_at;

    while (at < sequence->path_len && prefix->node[sequence->path[at]].pending > 1)
        at++;
    return at > sequence->path_at ? at * BLOCK - sequence->computed : 0;
}

void prefix_put(struct prefix *prefix, struct sequence *sequence, const uint32_t *table)
{
    while (sequence->path_at < sequence->path_len &&
           sequence->computed >= (sequence->path_at + 1) * BLOCK) {
        const uint32_t index = sequence->path[sequence->path_at];
        struct prefix_node *node = &prefix->node[index];

        assert(node->block == KV_NONE);
        node->block = table[sequence->path_at++];
        node->begun = sequence->path_begun = false;
        node->pending--;
        prefix->kv->block[node->block].node = index;
    }
    if (sequence->path_at < sequence->path_len && sequence->computed % BLOCK > 0)
        prefix->node[sequence->path[sequence->path_at]].begun = sequence->path_begun = true;
}

void prefix_give_back(struct prefix *prefix, const uint32_t *table, uint32_t len, bool leaving)
{
    for (uint32_t i = len; i > 0; i--)
        if (kv_give_back(prefix->kv, table[i - 1], leaving))
            keep(prefix, prefix->kv->block[table[i - 1]].node);
}

bool prefix_reclaim(struct prefix *prefix, bool all, uint32_t *ret_block)
{
    uint32_t index = prefix->kept[PREFIX_IDLE].oldest;
    struct kv_block *block;

    if (index == KV_NONE && all)
        index = prefix->kept[PREFIX_WANTED].oldest;
    if (index == KV_NONE)
        return false;
    unkeep(prefix, index);
    *ret_block = prefix->node[index].block;
    prefix->node[index].block = KV_NONE;
    block = &prefix->kv->block[*ret_block];
    block->node = KV_NONE;
    block->users = 1;
    drop_if_unused(prefix, index);
    return true;
}
