/* parcel.c: from a row to a request, and from an answer to a row. */
#include "scheduler/parcel.h"

#include "config/clock.h"
#include "config/log.h"
#include "scheduler/sign.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNREADABLE_MS = 60000 };

static struct slice copy_of(struct arena *arena, struct slice slice)
{
    return (struct slice){arena_copy(arena, slice.data, slice.len), slice.len};
}

static enum err take_secret(struct parcel *parcel, const struct seal *seal, struct slice sealed)
{
    struct slice label = {(const char *)parcel->delivery.endpoint.bytes,
                          sizeof(parcel->delivery.endpoint.bytes)};
    struct buffer text = {0};
    enum err rc = seal_take(seal, label, sealed, &text);

    if (!rc)
        rc = webhook_secret_parse(buffer_slice(&text), &parcel->secret[parcel->secret_count]);
    if (!rc)
        parcel->secret_count++;
    buffer_wipe(&text);
    return rc;
}

static enum err take_secrets(struct parcel *parcel, const struct seal *seal,
                             const struct slice sealed[2])
{
    enum err rc = ERR_OK;

    for (int i = 0; !rc && i < 2; i++)
        if (sealed[i].data)
            rc = take_secret(parcel, seal, sealed[i]);
    return rc;
}

struct parcel *parcel_new(const struct outbox_delivery *delivery, const struct seal *seal)
{
    struct parcel *parcel = xcalloc(1, sizeof(*parcel));
    char batch[UUID_BATCH_SIZE];

    parcel->delivery = *delivery;
    parcel->delivery.url = copy_of(&parcel->arena, delivery->url);
    parcel->delivery.body = copy_of(&parcel->arena, delivery->body);
    parcel->delivery.sealed[0] = parcel->delivery.sealed[1] = (struct slice){NULL, 0};
    uuid_format_batch(delivery->event, batch);
    snprintf(parcel->id, sizeof(parcel->id), "evt_%s", strchr(batch, '_') + 1);
    if (take_secrets(parcel, seal, delivery->sealed))
        parcel_release(parcel, UNREADABLE_MS, 0);
    return parcel;
}

void parcel_free(struct parcel *parcel)
{
    if (!parcel)
        return;
    explicit_bzero(parcel->secret, sizeof(parcel->secret));
    arena_release(&parcel->arena);
    buffer_release(&parcel->header);
    free(parcel);
}

void parcel_sign(struct parcel *parcel, int64_t unix_s, struct sender_request *ret)
{
    struct slice id = {parcel->id, strlen(parcel->id)};
    struct buffer signature = {0};
    size_t timestamp_at, signature_at;

    sign_delivery(parcel->secret, parcel->secret_count, id, unix_s, parcel->delivery.body,
                  &signature);
    buffer_clear(&parcel->header);
    buffer_printf(&parcel->header, "webhook-id: %s%c", parcel->id, '\0');
    timestamp_at = parcel->header.len;
    buffer_printf(&parcel->header, "webhook-timestamp: %" PRId64 "%c", unix_s, '\0');
    signature_at = parcel->header.len;
    buffer_printf(&parcel->header, "webhook-signature: %s", signature.data);
    buffer_release(&signature);
    *ret = (struct sender_request){
        .url = parcel->delivery.url.data,
        .header = {parcel->header.data, parcel->header.data + timestamp_at,
                   parcel->header.data + signature_at},
        .body = parcel->delivery.body,
    };
}

void parcel_release(struct parcel *parcel, uint64_t release_ms, uint64_t now_ns)
{
    parcel->is_released = true;
    parcel->release_ms = release_ms;
    parcel->ended_ns = now_ns;
}

void parcel_answer(struct parcel *parcel, const struct sender_answer *answer, int64_t unix_s,
                   uint64_t now_ns)
{
    parcel->ended_ns = now_ns;
    parcel->took_ns = answer->took_ns;
    parcel->status = answer->status;
    if (!delivery_retry_after(answer->retry_after, unix_s, &parcel->retry_after_ms))
        parcel->retry_after_ms = 0;
    snprintf(parcel->why, sizeof(parcel->why), "%s", answer->why ? answer->why : "");
}

void parcel_judge(struct parcel *parcel, const struct delivery_schedule *schedule,
                  uint64_t disable_after_ms, uint64_t random)
{
    const struct outbox_delivery *delivery = &parcel->delivery;
    struct delivery_attempt attempt = {
        .attempts = delivery->attempts + 1,
        .status = parcel->status,
        .retry_after_ms = parcel->retry_after_ms,
        .failures = delivery->failures,
        .failing_ms = delivery->failing_ms,
        .random = random,
    };

    if (!parcel->is_released)
        parcel->decision = delivery_decide(schedule, disable_after_ms, &attempt);
}

struct outbox_outcome parcel_outcome(const struct parcel *parcel, uint64_t now_ns)
{
    const struct delivery_decision *decision = &parcel->decision;
    uint64_t age_ms = parcel->ended_ns && now_ns > parcel->ended_ns
                          ? (now_ns - parcel->ended_ns) / CLOCK_NS_PER_MS
                          : 0;
    struct outbox_outcome outcome = {
        .endpoint = parcel->delivery.endpoint,
        .event = parcel->delivery.event,
        .token = parcel->delivery.token,
        .outcome = "released",
        .age_ms = age_ms,
        .retry_ms = parcel->release_ms,
    };

    if (parcel->is_released)
        return outcome;
    outcome.outcome = delivery_result_name(decision->result);
    outcome.status = parcel->status;
    outcome.why = parcel->why[0] ? parcel->why : NULL;
    outcome.took_ms = (uint32_t)(parcel->took_ns / CLOCK_NS_PER_MS);
    outcome.retry_ms = decision->retry_ms;
    outcome.rest_ms = decision->rest_ms;
    outcome.disabled_why = decision->disabled_why;
    return outcome;
}
