/* store.c: two questions, their answers unpacked and checked. */
#include "consumer/store.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "config/log.h"
#include "config/sha256.h"
#include "consumer/database.h"
#include "sql/db.h"
#include "sql/job.h"
#include "sql/work.h"

enum {
    CUSTOM_IDS_BYTES_MAX = CHUNK_LINES_MAX * 513,
    /* Whatever a submitter's limit was, up to the largest it can be; the digest is checked. */
    BODY_BYTES_MAX = 1 << 30,
};

struct store {
    const struct settings *settings;
    struct db *db; /* NULL until it is needed */
};

struct store *store_new(const struct settings *settings)
{
    struct store *store = xcalloc(1, sizeof *store);

    store->settings = settings;
    return store;
}

void store_free(struct store *store)
{
    if (!store)
        return;
    db_close(store->db);
    free(store);
}

static enum err connected(struct store *store)
{
    struct db_options options;

    if (store->db && db_is_open(store->db))
        return ERR_OK;
    if (store->db)
        return db_reopen(store->db);
    options = database_options(store->settings, "mserve-worker intake");
    return db_open(&options, &store->db);
}

static enum err unpack(struct slice packed, size_t bytes_max, struct arena *arena,
                       struct slice *ret)
{
    unsigned long long size = ZSTD_getFrameContentSize(packed.data, packed.len);
    char *bytes;
    size_t got;

    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > bytes_max)
        return ERR_INPUT;
    bytes = arena_alloc(arena, size + 1);
    got = ZSTD_decompress(bytes, size, packed.data, packed.len);
    if (ZSTD_isError(got) || got != size)
        return ERR_INPUT;
    bytes[size] = '\0';
    *ret = (struct slice){bytes, size};
    return ERR_OK;
}

enum err store_body(struct store *store, const uint8_t sha256[32], struct arena *arena,
                    struct slice *ret)
{
    uint8_t digest[32];
    struct slice packed;
    struct slice body;
    enum err err = connected(store);

    if (!err)
        err = blob_get(store->db, sha256, arena, &packed);
    if (err)
        return err;
    if (unpack(packed, BODY_BYTES_MAX, arena, &body))
        return fail(ERR_NOT_FOUND, "a body that was stored aside cannot be unpacked");
    sha256_of(body, digest);
    if (memcmp(digest, sha256, sizeof digest) != 0)
        return fail(ERR_NOT_FOUND, "a body that was stored aside is not the one submitted");
    *ret = body;
    return ERR_OK;
}

/* Texts that each end with a zero byte; false when there are not exactly `count`. */
static bool split(struct slice text, struct slice *ret, uint32_t count)
{
    const char *at = text.data;
    const char *end = text.data + text.len;

    for (uint32_t i = 0; i < count; i++) {
        const char *zero = at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;

        if (!zero)
            return false;
        ret[i] = (struct slice){at, (size_t)(zero - at)};
        at = zero + 1;
    }
    return at == end;
}

enum err store_custom_ids(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                          struct slice *ret)
{
    struct slice packed;
    struct slice text;
    enum err err = connected(store);

    if (!err)
        err = work_custom_ids(store->db, &chunk->job->id, chunk->chunk, arena, &packed);
    if (err)
        return err;
    if (unpack(packed, CUSTOM_IDS_BYTES_MAX, arena, &text) || !split(text, ret, chunk->lines))
        return fail(ERR_INTERNAL, "job %s chunk %d: its custom_ids in the index are damaged",
                    chunk->job->hex, chunk->chunk);
    return ERR_OK;
}
