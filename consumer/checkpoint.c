/* checkpoint.c: bytes out, bytes in, and whether what came in is what is wanted. */
#include "consumer/checkpoint.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "config/sha256.h"

enum {
    VERSION = 1,
    FLAG_LOGPROBS = 1,
    FLAG_NUMERICS_CHANGED = 2,
    FLAGS_KNOWN = 3,
    SUM_AT = 8,
    SUM_BYTES = 16,
    VARINT_BYTES_MAX = 5,
};

static const char magic[4] = {'M', 'S', 'C', 'K'};

void checkpoint_prompt_key(const uint32_t *prompt, uint32_t len, uint8_t ret[CHECKPOINT_KEY_BYTES])
{
    uint8_t digest[SHA256_BYTES];

    sha256_of((struct slice){(const char *)prompt, len * sizeof *prompt}, digest);
    memcpy(ret, digest, CHECKPOINT_KEY_BYTES);
}

/* --------------------------------------------------------------------------------- bytes out ---- */

static char *put(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

static char *put_u16(char *at, uint16_t value)
{
    value = htole16(value);
    return put(at, &value, sizeof value);
}

static char *put_u32(char *at, uint32_t value)
{
    value = htole32(value);
    return put(at, &value, sizeof value);
}

static char *put_u64(char *at, uint64_t value)
{
    value = htole64(value);
    return put(at, &value, sizeof value);
}

static char *put_varint(char *at, uint32_t value)
{
    while (value >= 0x80) {
        *at++ = (char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

static char *put_head(char *at, const struct checkpoint *checkpoint)
{
    unsigned flags = (checkpoint->logprobs ? FLAG_LOGPROBS : 0u) |
                     (checkpoint->numerics_changed ? FLAG_NUMERICS_CHANGED : 0u);

    at = put(at, magic, sizeof magic);
    at = put_u16(at, VERSION);
    at = put_u16(at, (uint16_t)flags);
    memset(at, 0, SUM_BYTES); /* until all is there */
    at = put(at + SUM_BYTES, checkpoint->job.bytes, sizeof checkpoint->job.bytes);
    at = put_u64(at, (uint64_t)checkpoint->line);
    at = put_u64(at, (uint64_t)checkpoint->epoch);
    at = put_u32(at, checkpoint->attempt);
    at = put_u32(at, checkpoint->tokens_len);
    at = put_u64(at, checkpoint->seed);
    at = put(at, checkpoint->prompt, sizeof checkpoint->prompt);
    at = put(at, checkpoint->model, sizeof checkpoint->model);
    at = put(at, checkpoint->numerics, sizeof checkpoint->numerics);
    return put_u64(at, checkpoint->ran_ns);
}

static char *put_logprob(char *at, float logprob)
{
    uint32_t bits;

    memcpy(&bits, &logprob, sizeof bits);
    return put_u32(at, bits);
}

static void sum_of(const char *state, size_t len, uint8_t ret[SUM_BYTES])
{
    uint8_t digest[SHA256_BYTES];
    struct sha256 sha;

    sha256_init(&sha);
    sha256_add(&sha, state, SUM_AT);
    sha256_add(&sha, state + SUM_AT + SUM_BYTES, len - SUM_AT - SUM_BYTES);
    sha256_end(&sha, digest);
    sha256_release(&sha);
    memcpy(ret, digest, SUM_BYTES);
}

void checkpoint_encode(const struct checkpoint *checkpoint, struct buffer *out)
{
    size_t each = VARINT_BYTES_MAX + (checkpoint->logprobs ? sizeof(uint32_t) : 0);
    char *start = buffer_reserve(out, CHECKPOINT_HEAD_BYTES + checkpoint->tokens_len * each);
    char *at = put_head(start, checkpoint);
    uint8_t sum[SUM_BYTES];

    assert(checkpoint->tokens_len > 0 && at == start + CHECKPOINT_HEAD_BYTES);
    for (uint32_t i = 0; i < checkpoint->tokens_len; i++)
        at = put_varint(at, checkpoint->tokens[i]);
    for (uint32_t i = 0; checkpoint->logprobs && i < checkpoint->tokens_len; i++)
        at = put_logprob(at, checkpoint->logprobs[i]);
    sum_of(start, (size_t)(at - start), sum);
    memcpy(start + SUM_AT, sum, sizeof sum);
    out->len += (size_t)(at - start);
    *at = '\0';
}

/* ---------------------------------------------------------------------------------- bytes in ---- */

static const char *take(const char *at, void *bytes, size_t len)
{
    memcpy(bytes, at, len);
    return at + len;
}

static const char *take_u16(const char *at, uint16_t *ret)
{
    at = take(at, ret, sizeof *ret);
    *ret = le16toh(*ret);
    return at;
}

static const char *take_u32(const char *at, uint32_t *ret)
{
    at = take(at, ret, sizeof *ret);
    *ret = le32toh(*ret);
    return at;
}

static const char *take_u64(const char *at, uint64_t *ret)
{
    at = take(at, ret, sizeof *ret);
    *ret = le64toh(*ret);
    return at;
}

/* NULL: it does not end, or is longer than it has to be, or larger than an id can be. */
static const char *take_varint(const char *at, const char *end, uint32_t *ret)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < VARINT_BYTES_MAX && at < end; i++) {
        uint8_t byte = (uint8_t)*at++;

        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte & 0x80)
            continue;
        if ((byte == 0 && i > 0) || value > UINT32_MAX)
            return NULL;
        *ret = (uint32_t)value;
        return at;
    }
    return NULL;
}

/* Returns the flags. */
static unsigned take_head(const char *at, struct checkpoint *ret)
{
    uint16_t flags;
    uint64_t line;
    uint64_t epoch;

    take_u16(at + sizeof magic + sizeof(uint16_t), &flags);
    at = take(at + SUM_AT + SUM_BYTES, ret->job.bytes, sizeof ret->job.bytes);
    at = take_u64(at, &line);
    at = take_u64(at, &epoch);
    at = take_u32(at, &ret->attempt);
    at = take_u32(at, &ret->tokens_len);
    at = take_u64(at, &ret->seed);
    at = take(at, ret->prompt, sizeof ret->prompt);
    at = take(at, ret->model, sizeof ret->model);
    at = take(at, ret->numerics, sizeof ret->numerics);
    take_u64(at, &ret->ran_ns);
    ret->line = (int64_t)line;
    ret->epoch = (int64_t)epoch;
    ret->numerics_changed = flags & FLAG_NUMERICS_CHANGED;
    return flags;
}

/* What can be said without looking at what it is a checkpoint of. NULL: nothing. */
static const char *whole(struct slice state)
{
    uint8_t sum[SUM_BYTES];
    uint16_t version;

    if (state.len < sizeof magic + sizeof version)
        return "it is cut short";
    if (memcmp(state.data, magic, sizeof magic) != 0)
        return "it is no checkpoint";
    take_u16(state.data + sizeof magic, &version);
    if (version != VERSION)
        return "it is of another version";
    if (state.len < CHECKPOINT_HEAD_BYTES)
        return "it is cut short";
    sum_of(state.data, state.len, sum);
    if (memcmp(sum, state.data + SUM_AT, sizeof sum) != 0)
        return "its checksum is wrong";
    return NULL;
}

static bool take_tokens(const char *at, const char *end, struct arena *arena, unsigned flags,
                        struct checkpoint *ret)
{
    size_t count = ret->tokens_len;
    size_t each = 1 + (flags & FLAG_LOGPROBS ? sizeof(float) : 0);
    uint32_t *tokens;
    float *logprobs = NULL;

    if (count == 0 || count > (size_t)(end - at) / each)
        return false;
    tokens = arena_alloc(arena, count * sizeof *tokens);
    for (size_t i = 0; i < count; i++) {
        at = take_varint(at, end, &tokens[i]);
        if (!at)
            return false;
    }
    if (flags & FLAG_LOGPROBS) {
        if ((size_t)(end - at) != count * sizeof *logprobs)
            return false;
        logprobs = arena_alloc(arena, count * sizeof *logprobs);
        for (size_t i = 0; i < count; i++) {
            uint32_t bits;

            at = take_u32(at, &bits);
            memcpy(&logprobs[i], &bits, sizeof bits);
        }
    }
    ret->tokens = tokens;
    ret->logprobs = logprobs;
    return at == end;
}

enum err checkpoint_decode(struct slice state, struct arena *arena, struct checkpoint *ret,
                           const char **ret_why)
{
    struct checkpoint got = {0};
    const char *why = whole(state);
    unsigned flags = 0;

    if (!why) {
        flags = take_head(state.data, &got);
        if (flags & ~(unsigned)FLAGS_KNOWN || got.attempt == 0 ||
            !take_tokens(state.data + CHECKPOINT_HEAD_BYTES, state.data + state.len, arena, flags,
                         &got))
            why = "its parts do not fit one another";
    }
    if (why) {
        *ret_why = why;
        return ERR_INPUT;
    }
    *ret = got;
    return ERR_OK;
}

/* -------------------------------------------------------------------------- the one that is wanted ---- */

static uint32_t largest(const uint32_t *ids, uint32_t count)
{
    uint32_t largest = 0;

    for (uint32_t i = 0; i < count; i++)
        largest = ids[i] > largest ? ids[i] : largest;
    return largest;
}

const char *checkpoint_hindrance(const struct checkpoint *checkpoint,
                                 const struct checkpoint_wanted *wanted)
{
    if (!uuid_equal(checkpoint->job, wanted->job) || checkpoint->line != wanted->line)
        return "it is another request's";
    if (checkpoint->epoch > wanted->epoch)
        return "it comes from a later epoch of the partition";
    if (checkpoint->attempt != wanted->attempt || checkpoint->tokens_len != wanted->tokens)
        return "it is not the one that its row tells of";
    if (memcmp(checkpoint->model, wanted->model, sizeof checkpoint->model) != 0)
        return "it was generated by another model";
    if (memcmp(checkpoint->prompt, wanted->prompt, sizeof checkpoint->prompt) != 0)
        return "it went on from another prompt";
    if (checkpoint->seed != wanted->seed || checkpoint->tokens_len > wanted->tokens_max)
        return "it was generated with other parameters";
    if (largest(checkpoint->tokens, checkpoint->tokens_len) >= wanted->vocab)
        return "it holds a token that the model does not have";
    if ((checkpoint->logprobs != NULL) != wanted->logprobs)
        return "its log-probabilities are not what is asked for";
    return NULL;
}
