/*
 * fuzz_checkpoint.c: whatever the bytes of a checkpoint are, they are refused with a reason, or they
 * are exactly what writing the same again gives: no second form of the same thing, and nothing
 * besides.
 *
 * A changed file hardly ever has the right checksum, so each input is tried twice: as it is, and
 * with its checksum made right, which lets the rest of the reader see it.
 */
#include "consumer/checkpoint.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/sha256.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check(struct slice state)
{
    struct arena arena = {0};
    struct buffer again = {0};
    struct checkpoint got;
    const char *why = NULL;

    if (checkpoint_decode(state, &arena, &got, &why) == ERR_OK) {
        must(got.tokens_len > 0 && got.attempt > 0);
        checkpoint_encode(&got, &again);
        must(again.len == state.len && memcmp(again.data, state.data, state.len) == 0);
    } else {
        must(why != NULL && why[0] != '\0');
    }
    buffer_release(&again);
    arena_release(&arena);
}

/* The first half of the digest of all but bytes 8 to 23 goes there. */
static void make_right(uint8_t *data, size_t size)
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 sha;

    sha256_init(&sha);
    sha256_add(&sha, data, 8);
    sha256_add(&sha, data + 24, size - 24);
    sha256_end(&sha, digest);
    sha256_release(&sha);
    memcpy(data + 8, digest, 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;

    check((struct slice){(const char *)data, size});
    if (size < 24)
        return 0;
    copy = malloc(size);
    must(copy != NULL);
    memcpy(copy, data, size);
    make_right(copy, size);
    check((struct slice){(const char *)copy, size});
    free(copy);
    return 0;
}
