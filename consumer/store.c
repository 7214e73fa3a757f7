/* store.c: questions, their answers unpacked and checked. */
#include "consumer/store.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "config/log.h"
#include "config/sha256.h"
#include "consumer/database.h"
#include "consumer/dead_letters.h"
#include "sql/db.h"
#include "sql/job.h"
#include "sql/work.h"

/* Whatever a submitter's limit was, up to the largest it can be; the digest is checked. */
enum { BODY_BYTES_MAX = 1 << 30 };

struct store {
    const struct settings *settings;
    struct db *db;             /* NULL until it is needed */
    struct dead_letters *dead; /* likewise */
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
    dead_letters_close(store->dead);
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

static enum err unpack(struct slice packed, struct arena *arena, struct slice *ret)
{
    unsigned long long size = ZSTD_getFrameContentSize(packed.data, packed.len);
    char *bytes;
    size_t got;

    if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > BODY_BYTES_MAX)
        return ERR_INPUT;
    bytes = arena_alloc(arena, size + 1);
    got = ZSTD_decompress(bytes, size, packed.data, packed.len);
    if (ZSTD_isError(got) || got != size)
        return ERR_INPUT;
    bytes[size] = '\0';
    *ret = (struct slice){bytes, size};
    return ERR_OK;
}

enum err store_body(struct store *store, const struct uuid *job, const uint8_t sha256[32],
                    struct arena *arena, struct slice *ret)
{
    uint8_t digest[32];
    struct slice packed;
    struct slice body;
    enum err err = connected(store);

    if (!err)
        err = blob_get(store->db, job, sha256, arena, &packed);
    if (err)
        return err;
    if (unpack(packed, arena, &body))
        return fail(ERR_INPUT, "a body that was stored aside cannot be unpacked");
    sha256_of(body, digest);
    if (memcmp(digest, sha256, sizeof digest) != 0)
        return fail(ERR_INPUT, "a body that was stored aside is not the one submitted");
    *ret = body;
    return ERR_OK;
}

enum err store_custom_ids(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                          struct slice *ret)
{
    struct slice packed;
    enum err err = connected(store);

    if (!err)
        err = work_custom_ids(store->db, &chunk->job->id, chunk->chunk, arena, &packed);
    if (err)
        return err;
    if (!work_names(packed, chunk->lines, arena, ret))
        log_error("chunk.custom_ids_damaged", "job=%s chunk=%d", chunk->job->hex, chunk->chunk);
    return ERR_OK;
}

enum err store_checkpoints(struct store *store, const struct claim_chunk *chunk,
                           struct arena *arena, struct checkpoint_row **ret, uint32_t *ret_count)
{
    enum err err = connected(store);

    if (err)
        return err;
    return checkpoints_load(store->db, &chunk->job->id, chunk->first_line, chunk->lines, arena, ret,
                            ret_count);
}

enum err store_suspects(struct store *store, const struct claim_chunk *chunk, struct arena *arena,
                        struct quarantine_line **ret, uint32_t *ret_count)
{
    enum err err = connected(store);

    return err ? err
               : quarantine_lines(store->db, chunk->job->id, chunk->first_line, chunk->lines, arena,
                                  ret, ret_count);
}

enum err store_dead_letter(struct store *store, const struct claim_chunk *chunk, uint32_t index,
                           struct slice custom_id, struct slice body, struct arena *arena)
{
    struct dead_letter letter = {
        .job = chunk->job->id,
        .line = chunk->first_line + index,
        .custom_id = custom_id,
        .body = body,
    };
    enum err err = connected(store);

    if (!err)
        err = quarantine_add_dead(store->db, letter.job, letter.line, custom_id, body, arena,
                                  &letter.deaths);
    if (!err && !store->dead)
        err = dead_letters_open(&store->settings->kafka, &store->dead);
    return err ? err : dead_letters_send(store->dead, &letter);
}
