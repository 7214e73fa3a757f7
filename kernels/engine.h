/*
 * engine.h: one model on one device. Token ids go in, tokens, embeddings and their exact cost come
 * out. Knows no job, no Kafka, no SQL.
 *
 * THREADS One thread, the device thread, calls everything; there are no callbacks. Two exceptions:
 * engine_tokenizer() and engine_model() return immutable things that any thread may use as long as
 * the engine is open.
 *
 * PATTERN OF USE
 *     for (;;) {
 *         while (work is at hand && engine_submit(engine, &request) == ERR_OK) …
 *         engine_step(engine, &info);           enqueues step n + 1, then collects step n
 *         while (engine_poll(engine, &event)) … results; their memory lasts until the next step
 *         engine_books(engine, &books);         after the poll loop: the cut that a commit takes
 *     }
 *
 * THE BOOKS Every nanosecond of the device clock since engine_open() began is moved, where it is
 * measured, into one account, in integers:
 *     held = delivered + live + shared + recompute + overhead + idle
 * `delivered` is the sum of event.cost.ns of all polled events, `live` what unfinished (and
 * finished but not yet polled) sequences have cost so far. A sequence restored from a checkpoint
 * starts at zero: what it cost before is on the checkpoint's row.
 *
 * INVARIANCE With the same numerics id, a request's tokens and log-probabilities depend on its prompt, parameters and
 * seed alone: not on who shares the step, on chunking, on threads, on being cancelled and resumed.
 */
#ifndef MSERVE_KERNELS_ENGINE_H
#define MSERVE_KERNELS_ENGINE_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct tokenizer; /* kernels/text/tokenizer.h */

/* The simulated device: a clock that only steps move, and tokens from a hash. */
struct sim_options {
    uint64_t load_ns;  /* opening the model */
    uint64_t fixed_ns; /* each step */
    uint64_t row_ns;   /* each row: the linear layers */
    uint64_t kv_ns;    /* each 1,024 KV tokens that attention touches, rounded down per step */
    uint64_t
        chunk_kv_ns;  /* the same for rows of chunks: prompts, what is read again; 0: as kv_ns */
    uint64_t head_ns; /* each row sampled or pooled */
    double pace;      /* wall time per simulated time: 0 as fast as it goes, 1 real time */
    uint32_t eos_per_million; /* chance of an end token at each position; 0: only max_tokens ends */
    /* Tokens of a prompt that kill whoever reads them, for tests of that; 0: none. */
    uint32_t abort_token;
    uint32_t hang_token;
    uint32_t eat_token;  /* takes memory until there is none */
    uint32_t fail_token; /* the device fails, and nothing works on it any more */
};

/* What keys and values are stored as. A backend refuses what it does not have. */
enum engine_kv {
    ENGINE_KV_HALF, /* 16 bits: F16 on a CPU, as llama.cpp does, BF16 on a GPU */
    ENGINE_KV_F32,  /* not on a GPU */
    ENGINE_KV_FP8,  /* on a GPU alone: half the memory, so twice the sequences */
};

/* What a GPU multiplies with. A CPU takes the file's own numbers, whatever stands here. */
enum engine_weights {
    ENGINE_WEIGHTS_AUTO, /* BF16 */
    ENGINE_WEIGHTS_BF16,
    ENGINE_WEIGHTS_FP8, /* E4M3 with a scale a row; a card without it: INT8 of quantised files, else
                          * BF16 */
    ENGINE_WEIGHTS_INT8, /* with a scale a row */
};

struct engine_options {
    const char *backend;      /* "cpu", "ref", "sim" …; others are refused with a list of these */
    const char *model_path;   /* GGUF; ignored by sim */
    const char *model_sha256; /* 64 hex digits the file must have, or NULL */
    uint32_t sequences_max;   /* running at once: 1..4096 */
    uint32_t waiting_max;     /* submitted and not yet running; then engine_submit says ERR_AGAIN,
                               * for a resumed one only when sequences_max more wait */
    uint32_t rows_max;        /* token budget of a step: sequences_max..65536 */
    uint32_t context_max; /* prompt + output tokens of one request; 0: the model's own, more than
                               * that is at the caller's risk (a warning) */
    uint64_t kv_tokens; /* size of the KV pool; 0: sequences_max * context, at most 1 GiB, on a GPU
                           * at most what the card has left */
    enum engine_kv kv;
    enum engine_weights weights;
    uint32_t threads; /* of a CPU backend; 0: one per core */
    const char *gpu;  /* of a GPU backend: a UUID, the beginning of one, or an index; NULL or "":
                           * the first */
    struct sim_options sim;
};

/* What opening would take, from the file's header alone; nothing is allocated. */
struct engine_plan {
    uint64_t weight_bytes;
    uint64_t kv_bytes;
    uint64_t activation_bytes;
    uint64_t kv_tokens;
    uint32_t context_max;
};

enum err engine_plan(const struct engine_options *options, struct engine_plan *ret);

/* Reads and checks the model, allocates everything. The time it takes is booked as overhead. */
enum err engine_open(const struct engine_options *options, struct engine **ret);
void engine_close(struct engine *engine); /* NULL is allowed */

struct engine_model {
    char name[128];         /* general.name, or the file's */
    uint8_t digest[32];     /* sha256 of the file; of the options for sim */
    uint8_t numerics[32];   /* digest, backend, instruction set, build: equal ids, equal tokens */
    char numerics_text[96]; /* the same for people: "ref/scalar/f32" */
    uint32_t vocab;
    uint32_t context_max;
    uint32_t embedding_len;
    char chat_format[32]; /* name of the chat format that the file asks for */
};

const struct engine_model *engine_model(const struct engine *engine);
const struct tokenizer *engine_tokenizer(const struct engine *engine);

enum engine_kind { ENGINE_GENERATE, ENGINE_EMBED };

/* Defaults of OpenAI's API where a request says nothing are the caller's to fill in. */
struct engine_sampling {
    float temperature; /* 0: greedy, ties go to the lowest id */
    float top_p;       /* 1: off */
    float min_p;       /* 0: off */
    uint32_t top_k;    /* 0: off */
    uint64_t seed;     /* Philox key; the counter is (position, choice, draw) */
    uint32_t choice;   /* 0.. n - 1 of a request with n choices */
};

struct engine_request {
    uint64_t tag; /* the caller's name for it, unique among those not yet delivered */
    enum engine_kind kind;
    uint64_t group; /* 0: none. Requests of one group that begin alike share the KV blocks of that
                     * beginning, and no others do; embeddings share nothing */
    const uint32_t *prompt;  /* copied, as are `resumed` and `stop` */
    uint32_t prompt_len;     /* >= 1 */
    const uint32_t *resumed; /* tokens that an earlier attempt generated */
    uint32_t resumed_len;
    uint32_t tokens_max; /* to generate, resumed ones included; >= 1 for ENGINE_GENERATE */
    struct engine_sampling sampling;
    const struct slice *stop; /* stop strings, matched on the bytes generated */
    uint32_t stop_len;        /* at most 16, each at most 256 bytes */
    bool ignore_eos;
    bool include_stop;             /* keep the stop string in the text */
    bool logprobs;                 /* of each token generated; ENGINE_GENERATE only */
    const float *resumed_logprobs; /* of `resumed`, with `logprobs`; copied */
};

/*
 * ERR_AGAIN: full, come back after a step. ERR_LIMIT (not logged): the request can never run: no
 * prompt, nothing to generate, prompt + tokens_max do not fit context_max, more resumed than
 * tokens_max or resumed without the log-probabilities that it asks for, a token outside the
 * vocabulary, or stop strings beyond their limits.
 */
enum err engine_submit(struct engine *engine, const struct engine_request *request);

struct engine_step_info {
    uint32_t running; /* sequences that still want steps */
    uint32_t waiting;
    uint32_t rows;   /* of the step that was collected */
    uint32_t tokens; /* sampled by it and kept */
    uint64_t steps;  /* since open */
    bool idle;       /* nothing was to be done, nothing is in flight */

    uint32_t sequences; /* in it */
    uint32_t wanted;    /* of its rows, those that were sampled or pooled */
    uint64_t kv;        /* KV tokens that its attention touched */

    uint32_t kv_blocks;      /* that the cache has, now */
    uint32_t kv_blocks_free; /* of these, in no table and not kept for a beginning */

    /* When the device worked on the step that was collected, by its clock, and on what: the parts
     * add up to end - begin. Zeros where none was. */
    uint64_t begin_ns;
    uint64_t end_ns;
    uint64_t fixed_ns;
    uint64_t linear_ns;
    uint64_t attention_ns;
    uint64_t head_ns;
};

/*
 * One turn. ERR_DEVICE when the device failed: from then on nothing runs. What was in flight is lost,
 * its time is overhead. What was taken in before is not: engine_checkpoint(), engine_cancel(),
 * engine_poll() and the books tell of it; engine_step() and engine_flush() say ERR_DEVICE.
 */
enum err engine_step(struct engine *engine, struct engine_step_info *info);

/* Collects what is in flight without enqueuing more: before a checkpoint, a drain, a close. */
enum err engine_flush(struct engine *engine);

/*
 * Nothing in flight and nothing to do: moves the time since the last step to `idle`. The loop calls
 * it when it wakes from waiting for work, and before it takes a cut of the books.
 */
void engine_idle(struct engine *engine);

enum engine_finish {
    ENGINE_STOP,      /* end token or stop string */
    ENGINE_LENGTH,    /* tokens_max, or the context is full */
    ENGINE_CANCELLED, /* by engine_cancel() */
    ENGINE_NUMERIC,   /* NaN or infinity in its logits: failed, never sampled */
};

struct engine_cost {
    uint64_t ns;           /* of device time, since this engine took the request */
    uint64_t recompute_ns; /* reading again what an earlier attempt had read: not part of ns */
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* of these, found in the KV cache when it first ran */
    uint32_t output_tokens; /* as many as the event has, so with the end token */
};

struct engine_event {
    uint64_t tag;
    enum engine_finish finish;
    const uint32_t *tokens; /* all generated: resumed ones, those of a stop string, the end token */
    uint32_t tokens_len;
    const float *logprobs;  /* [tokens_len], NULL unless asked for: natural logarithms of what the
                             * softmax of the model's logits gave them, at temperature 1 and before
                             * any filter */
    struct slice text;      /* their bytes, without the end token's; without the stop string, unless
                             * it was to stay. May end inside a UTF-8 character */
    const float *embedding; /* ENGINE_EMBED: embedding_len numbers, L2 norm 1 */
    struct engine_cost cost;
};

/* Next finished request; false when there is none. Memory lasts until the next engine_step(). */
bool engine_poll(struct engine *engine, struct engine_event *ret);

/*
 * Ends a request early: its event comes as ENGINE_CANCELLED with its cost and what it has
 * generated. Rows of it that are in flight are still its own: then the event comes when they are
 * in, unless they end it otherwise. Unknown tags are ignored.
 */
void engine_cancel(struct engine *engine, uint64_t tag);

/* One live sequence as a checkpoint wants it. */
struct engine_checkpoint {
    uint64_t tag;
    const uint32_t *tokens; /* valid until the next engine_step() */
    uint32_t tokens_len;
    const float *logprobs; /* [tokens_len], NULL unless asked for; as long as `tokens` */
    uint64_t cost_ns;      /* since this engine took it, */
    uint64_t recompute_ns; /* and beside it, for reading again */
    bool moved; /* it has more tokens than at the last walk, or than it was resumed with */
};

/* Walks the live sequences: start with *cursor = 0; false at the end. Flush first. */
bool engine_checkpoint(struct engine *engine, uint32_t *cursor, struct engine_checkpoint *ret);

/* The same in short, at any time between two steps; it marks nothing as walked. */
struct engine_look {
    uint64_t tag;
    uint32_t tokens_len; /* that have been taken in */
    uint64_t cost_ns;
    uint64_t recompute_ns;
};
bool engine_look(const struct engine *engine, uint32_t *cursor, struct engine_look *ret);

struct engine_books {
    uint64_t held_ns; /* of the device clock since engine_open() began, up to the last cut */
    uint64_t delivered_ns;
    uint64_t live_ns;
    uint64_t shared_ns;
    uint64_t recompute_ns;
    uint64_t overhead_ns; /* load, rows decoded past a stop, gaps between steps with work at hand */
    uint64_t idle_ns;
};

/* Of a group, in `shared` and in `recompute`. */
struct engine_group_books {
    uint64_t group;
    uint64_t shared_ns; /* rows that others of the group, in the engine then, had before them too */
    uint64_t recompute_ns;
};

/*
 * What was not told yet, group by group, until false. With requests that all have a group, what was
 * ever told adds up to shared_ns and recompute_ns of the books.
 */
bool engine_group_books(struct engine *engine, struct engine_group_books *ret);

/* Each field is counted on its own, none is a remainder. Cumulative. */
void engine_books(const struct engine *engine, struct engine_books *ret);

/* The clock that costs are measured with: CLOCK_MONOTONIC on a CPU, simulated time in sim. */
uint64_t engine_clock_ns(const struct engine *engine);

#endif
