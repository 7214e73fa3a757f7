/*
 * dead_letters.h: the topic <prefix>.dead-letter: a message for each request that was found guilty of
 * killing workers.
 *
 * VALUE    JSON: id, job, line, custom_id, deaths (a list: worker, name, host, at, why, signal,
 *          thread, open, apart), body; where the body is too large for a message it is null, and stands in
 *          table dead_letters
 * KEY      id: "batch_<32 hex>/<line>". A letter comes at least once; the id tells them apart.
 *
 * One thread uses a struct dead_letters.
 */
#ifndef MSERVE_CONSUMER_DEAD_LETTERS_H
#define MSERVE_CONSUMER_DEAD_LETTERS_H

#include "config/buffer.h"
#include "config/settings.h"
#include "config/uuid.h"

#include <stdbool.h>
#include <stdint.h>

struct dead_letter {
    struct uuid job;
    int64_t line;
    struct slice custom_id;
    struct slice body;   /* JSON */
    struct slice deaths; /* JSON */
};

struct dead_letters;

enum err dead_letters_open(const struct settings_kafka *settings, struct dead_letters **ret);
void dead_letters_close(struct dead_letters *letters); /* NULL is allowed */

/*
 * Waits until all in-sync copies have it; ERR_BROKER: try again later. What Kafka will never take (no
 * such topic, no right to write into it, a letter too large for it) is not waited for, as the request's
 * row waits for the letter: logged, and ERR_OK. The letter stands in table dead_letters.
 */
enum err dead_letters_send(struct dead_letters *letters, const struct dead_letter *letter);

/* For tests: what is sent, and whether this answer to it (a rd_kafka_resp_err_t) is for good. */
void dead_letters_write(const struct dead_letter *letter, struct buffer *out);
bool dead_letters_is_refusal(int answer);

#endif
