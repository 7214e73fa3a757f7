/* share.c: the arithmetic of share.h. */
#include "kernels/share.h"

#include <inttypes.h>

static double gib(uint64_t bytes)
{
    return (double)bytes / (1ull << 30);
}

static uint64_t fixed_bytes(const struct share_part *part)
{
    return part->weight_bytes + part->activation_bytes + part->context_bytes;
}

/* What it has at least. */
static uint64_t least_tokens(const struct share_part *part)
{
    return part->kv_tokens > 0 ? part->kv_tokens : part->kv_tokens_min;
}

/* What it could use beyond that. */
static uint64_t more_bytes(const struct share_part *part)
{
    if (part->kv_tokens > 0 || part->kv_tokens_max <= part->kv_tokens_min)
        return 0;
    return (part->kv_tokens_max - part->kv_tokens_min) * part->kv_token_bytes;
}

static void add_line(const struct share_part *part, uint64_t tokens, struct buffer *text)
{
    buffer_printf(text,
                  "tier %s: weights %.2f GiB + activations %.2f GiB + context %.2f GiB + KV cache "
                  "%.2f GiB (%" PRIu64 " tokens) = %.2f GiB\n",
                  part->name, gib(part->weight_bytes), gib(part->activation_bytes),
                  gib(part->context_bytes), gib(tokens * part->kv_token_bytes), tokens,
                  gib(fixed_bytes(part) + tokens * part->kv_token_bytes));
}

static uint64_t add_lines(const struct share_part *part, uint32_t count, struct buffer *text)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        const uint64_t tokens = least_tokens(&part[i]);

        add_line(&part[i], tokens, text);
        sum += fixed_bytes(&part[i]) + tokens * part[i].kv_token_bytes;
    }
    return sum;
}

static void give_out(struct share_part *part, uint32_t count, uint64_t left)
{
    double wanted = 0, rate;

    for (uint32_t i = 0; i < count; i++)
        wanted += (double)more_bytes(&part[i]);
    rate = wanted > 0 ? (double)left * SHARE_KV_PERCENT / 100 / wanted : 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t more = part[i].kv_tokens_max > part[i].kv_tokens_min
                                  ? part[i].kv_tokens_max - part[i].kv_tokens_min
                                  : 0;

        if (part[i].kv_tokens > 0)
            continue;
        part[i].kv_tokens =
            part[i].kv_tokens_min +
            (rate >= 1 ? more : (uint64_t)((double)more * rate)) / SHARE_KV_BLOCK * SHARE_KV_BLOCK;
    }
}

bool share_memory(struct share_part *part, uint32_t count, uint64_t bytes, struct buffer *text)
{
    struct buffer least = {0};
    const uint64_t sum = add_lines(part, count, &least);
    const bool fits = sum <= bytes;

    if (fits) {
        uint64_t all;

        give_out(part, count, bytes - sum);
        all = add_lines(part, count, text);
        buffer_printf(text, "together %.2f GiB of the %.2f GiB that there are\n", gib(all),
                      gib(bytes));
    } else {
        buffer_add(text, least.data, least.len);
        buffer_printf(text,
                      "together %.2f GiB, and there are %.2f GiB: %.2f GiB are missing\n"
                      "lower kv_tokens, context_max, sequences_max or rows_max, or take smaller "
                      "models, fewer tiers or another GPU\n",
                      gib(sum), gib(bytes), gib(sum - bytes));
    }
    buffer_release(&least);
    return fits;
}
