/*
 * custom_ids.c: 256 buckets, each a list of pages in one spill; a page is written when it is full.
 */
#include "producer/custom_ids.h"
#include "producer/spill.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    struct custom_id_hash hash;
    uint64_t request;
};

enum {
    BUCKETS = 256,
    PAGE_ENTRIES_FIRST = 64, /* a page begins small, so that a small file takes little */
    PAGE_ENTRIES = 2730,     /* 64 KiB */
    SPILL_MEMORY_BYTES = 1 << 20,
};

struct bucket {
    struct entry *page; /* being filled */
    uint32_t used, room;
    uint64_t *written; /* where its full pages begin in the spill */
    uint32_t written_count;
    uint32_t written_room;
};

struct custom_ids {
    struct bucket bucket[BUCKETS];
    struct spill *spill;
};

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = ROTATE(v[1], 13) ^ v[0];
    v[3] = ROTATE(v[3], 16) ^ v[2];
    v[0] = ROTATE(v[0], 32) + v[3];
    v[2] += v[1];
    v[3] = ROTATE(v[3], 21) ^ v[0];
    v[1] = ROTATE(v[1], 17) ^ v[2];
    v[2] = ROTATE(v[2], 32);
}

struct custom_id_hash custom_id_hash(const struct custom_id_key *key, struct slice id)
{
    uint64_t v[4] = {key->k0 ^ 0x736f6d6570736575, key->k1 ^ 0x646f72616e646f6d ^ 0xee,
                     key->k0 ^ 0x6c7967656e657261, key->k1 ^ 0x7465646279746573};
    struct custom_id_hash hash;
    uint64_t word;

    for (size_t at = 0;; at += 8) {
        size_t left = id.len - at;

        word = left < 8 ? (uint64_t)id.len << 56 : 0;
        memcpy(&word, id.data + at, left < 8 ? left : 8); /* little-endian, as SipHash wants it */
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
        if (left < 8)
            break;
    }
    v[2] ^= 0xee;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    hash.a = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    hash.b = v[0] ^ v[1] ^ v[2] ^ v[3];
    return hash;
}

struct custom_ids *custom_ids_new(const char *dir)
{
    struct custom_ids *ids = xcalloc(1, sizeof(*ids));

    ids->spill = spill_new(dir, "the hashes of the custom_ids", SPILL_MEMORY_BYTES);
    return ids;
}

void custom_ids_free(struct custom_ids *ids)
{
    if (ids == NULL)
        return;
    for (int i = 0; i < BUCKETS; i++) {
        free(ids->bucket[i].page);
        free(ids->bucket[i].written);
    }
    spill_free(ids->spill);
    free(ids);
}

/* Grows the page, or writes it out when it is as large as pages get. */
static enum err make_room(struct custom_ids *ids, struct bucket *bucket)
{
    enum err rc;

    if (bucket->room < PAGE_ENTRIES) {
        bucket->room = bucket->room == 0 ? PAGE_ENTRIES_FIRST : bucket->room * 2;
        if (bucket->room > PAGE_ENTRIES)
            bucket->room = PAGE_ENTRIES;
        bucket->page = xrealloc(bucket->page, bucket->room, sizeof(struct entry));
        return ERR_OK;
    }
    if (bucket->written_count == bucket->written_room) {
        bucket->written_room = bucket->written_room == 0 ? 16 : bucket->written_room * 2;
        bucket->written = xrealloc(bucket->written, bucket->written_room, sizeof(uint64_t));
    }
    bucket->written[bucket->written_count] = spill_size(ids->spill);
    rc = spill_append(ids->spill, bucket->page, bucket->used * sizeof(struct entry));
    if (rc != ERR_OK)
        return rc;
    bucket->written_count++;
    bucket->used = 0;
    return ERR_OK;
}

enum err custom_ids_add(struct custom_ids *ids, struct custom_id_hash hash, uint64_t request)
{
    struct bucket *bucket = &ids->bucket[hash.a >> 56];

    if (bucket->used == bucket->room) {
        enum err rc = make_room(ids, bucket);

        if (rc != ERR_OK)
            return rc;
    }
    bucket->page[bucket->used++] = (struct entry){hash, request};
    return ERR_OK;
}

/* All entries of a bucket, in order of request; the caller frees them. */
static enum err load(struct custom_ids *ids, struct bucket *bucket, struct entry **ret,
                     size_t *ret_count)
{
    size_t count = (size_t)bucket->written_count * PAGE_ENTRIES;
    struct entry *entries = xcalloc(count + bucket->used + 1, sizeof(*entries));
    enum err rc = ERR_OK;

    for (uint32_t i = 0; i < bucket->written_count && rc == ERR_OK; i++)
        rc = spill_read(ids->spill, bucket->written[i], entries + (size_t)i * PAGE_ENTRIES,
                        PAGE_ENTRIES * sizeof(struct entry));
    if (rc != ERR_OK) {
        free(entries);
        return rc;
    }
    if (bucket->used > 0)
        memcpy(entries + count, bucket->page, bucket->used * sizeof(struct entry));
    *ret = entries;
    *ret_count = count + bucket->used;
    return ERR_OK;
}

/* Entries are put one by one into a table with open addressing; `table` holds index + 1. */
static enum err look_through(const struct entry *entries, size_t count, uint32_t *table,
                             size_t mask, custom_ids_fn *on_duplicate_cb, void *data)
{
    for (size_t i = 0; i < count; i++) {
        size_t slot = entries[i].hash.b & mask;
        const struct entry *there = NULL;

        while (table[slot] != 0) {
            there = &entries[table[slot] - 1];
            if (there->hash.a == entries[i].hash.a && there->hash.b == entries[i].hash.b)
                break;
            there = NULL;
            slot = (slot + 1) & mask;
        }
        if (there != NULL) {
            enum err rc = on_duplicate_cb(data, entries[i].request, there->request);

            if (rc != ERR_OK)
                return rc;
        } else {
            table[slot] = (uint32_t)i + 1;
        }
    }
    return ERR_OK;
}

enum err custom_ids_duplicates(struct custom_ids *ids, custom_ids_fn *on_duplicate_cb, void *data)
{
    enum err rc = ERR_OK;

    for (int i = 0; i < BUCKETS && rc == ERR_OK; i++) {
        struct entry *entries;
        uint32_t *table;
        size_t count, size = 64;

        rc = load(ids, &ids->bucket[i], &entries, &count);
        if (rc != ERR_OK)
            break;
        while (size < count * 2)
            size *= 2;
        table = xcalloc(size, sizeof(*table));
        rc = look_through(entries, count, table, size - 1, on_duplicate_cb, data);
        free(table);
        free(entries);
    }
    return rc;
}
