/* drive.c: the smallest scheduler that uses all of a device. */
#include "drive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCK = DEVICE_BLOCK_TOKENS };

void drive_open_as(struct drive *drive, const struct device_ops *ops, const struct model *model,
                   const struct device_limits *limits)
{
    const struct engine_options options = {.backend = "ref"};

    *drive = (struct drive){.depth = 1, .embed = model->hyper.embed, .limits = *limits};
    drive->limits.blocks = limits->sequences_max * ((limits->context_max + BLOCK - 1) / BLOCK) + 3;
    assert_int_equal(ops->open(model, &options, &drive->limits, &drive->device), ERR_OK);
}

void drive_open(struct drive *drive, const struct device_ops *ops, const struct model *model,
                uint32_t sequences, uint32_t rows_max, uint32_t context, uint32_t threads)
{
    drive_open_as(drive, ops, model,
                  &(struct device_limits){.rows_max = rows_max,
                                          .sequences_max = sequences,
                                          .context_max = context,
                                          .threads = threads});
}

void drive_open_exact(struct drive *drive, const struct device_ops *ops, const struct model *model,
                      uint32_t sequences, uint32_t rows_max, uint32_t context, uint32_t threads)
{
    drive_open_as(drive, ops, model,
                  &(struct device_limits){.rows_max = rows_max,
                                          .sequences_max = sequences,
                                          .context_max = context,
                                          .threads = threads,
                                          .kv = ENGINE_KV_F32});
}

void drive_close(struct drive *drive)
{
    drive->device->ops->close(drive->device);
}

/* Every slot gets the blocks of a whole context, in no order. */
static void deal_blocks(struct drive *drive, struct slots *slots, uint32_t len, uint64_t random)
{
    uint32_t blocks = drive->limits.blocks;
    uint32_t *id = xcalloc(blocks, sizeof(*id));
    uint32_t next = 0;

    for (uint32_t i = 0; i < blocks; i++)
        id[i] = i;
    for (uint32_t i = blocks; i > 1; i--) {
        uint32_t other, kept = id[i - 1];

        random = random * 6364136223846793005u + 1442695040888963407u;
        other = (uint32_t)(random >> 33) % i;
        id[i - 1] = id[other];
        id[other] = kept;
    }
    for (uint32_t s = 0; s < len; s++)
        for (uint32_t i = 0; i < slots->blocks_stride; i++)
            slots->blocks[(size_t)s * slots->blocks_stride + i] = id[next++];
    free(id);
}

static void want(struct step *step, uint32_t sequence, uint32_t row)
{
    step->want_seq[step->wanted] = sequence;
    step->want_row[step->wanted++] = row;
}

/* Adds what `sequence` wants next, as far as `rows_max` goes. */
static void plan(struct drive_sequence *sequence, uint32_t slot, uint32_t rows_max,
                 struct step *step)
{
    bool embed = sequence->tokens_max == 0;
    bool reading = sequence->ctx < sequence->prompt_len;
    uint32_t rows = reading ? sequence->prompt_len - sequence->ctx : 1;
    uint32_t at = step->sequences;

    if (reading && sequence->chunk > 0 && rows > sequence->chunk)
        rows = sequence->chunk;
    if (rows > rows_max - step->rows)
        rows = rows_max - step->rows;
    if (rows == 0 || (!reading && (embed || sequence->planned == sequence->tokens_max)))
        return;
    step->sequences++;
    step->seq_slot[at] = slot;
    step->seq_row[at] = step->rows;
    step->seq_rows[at] = rows;
    step->seq_ctx[at] = sequence->ctx;
    for (uint32_t i = 0; i < rows; i++)
        step->token[step->rows + i] = reading ? (int32_t)sequence->prompt[sequence->ctx + i] : -1;
    step->rows += rows;
    sequence->ctx += rows;
    if (sequence->ctx >= sequence->prompt_len) {
        want(step, at, step->rows - 1);
        sequence->planned++;
    }
}

/* Enqueues what wants to run at time `now`; false when that is nothing. */
static bool enqueue(struct drive *drive, struct drive_sequence *sequences, uint32_t len,
                    unsigned slot, uint64_t now, bool *ret_more)
{
    const struct device_ops *ops = drive->device->ops;
    struct step *step = ops->begin(drive->device, slot);

    drive->step[slot] = step;
    step->sequences = step->rows = step->wanted = 0;
    *ret_more = false;
    for (uint32_t s = 0; s < len; s++) {
        if (sequences[s].joins_step <= now)
            plan(&sequences[s], s, drive->limits.rows_max, step);
        *ret_more = *ret_more || sequences[s].ctx < sequences[s].prompt_len ||
                    sequences[s].planned < sequences[s].tokens_max;
    }
    if (step->rows == 0)
        return false;
    drive->enqueued_ns[slot] = ops->clock_ns(drive->device);
    ops->forward(drive->device, slot);
    ops->sample(drive->device, slot);
    return true;
}

/* A step begins where the one before it ended, or after it was enqueued. */
static void check_time(struct drive *drive, unsigned slot, const struct step_result *result)
{
    uint64_t sum = 0;

    for (int part = 0; part < PART_COUNT; part++)
        sum += result->part_ns[part];
    assert_true(result->begin_ns >= drive->last_end);
    assert_true(result->begin_ns == drive->last_end ||
                result->begin_ns >= drive->enqueued_ns[slot]);
    assert_true(result->end_ns > result->begin_ns);
    assert_int_equal(sum, result->end_ns - result->begin_ns);
    drive->last_end = result->end_ns;
}

static void collect(struct drive *drive, struct drive_sequence *sequences, unsigned slot)
{
    const struct step *step = drive->step[slot];
    uint32_t embed = drive->embed;
    struct step_result result;

    assert_int_equal(drive->device->ops->done(drive->device, slot, -1, &result), ERR_OK);
    check_time(drive, slot, &result);
    for (uint32_t i = 0; i < step->wanted; i++) {
        struct drive_sequence *sequence = &sequences[step->seq_slot[step->want_seq[i]]];

        sequence->bad += result.bad[i];
        if (sequence->tokens_max == 0)
            memcpy(sequence->embedding, result.embedding + (size_t)i * embed,
                   (embed < DRIVE_EMBED_MAX ? embed : DRIVE_EMBED_MAX) * sizeof(float));
        else
            sequence->tokens[sequence->tokens_len++] = result.token[i];
    }
    drive->steps++;
}

void drive_run(struct drive *drive, struct drive_sequence *sequences, uint32_t len,
               uint64_t shuffle)
{
    const struct device_ops *ops = drive->device->ops;
    struct slots *slots = ops->slots(drive->device);
    uint64_t enqueued = 0, done = 0, now = 0;
    bool more = true;

    deal_blocks(drive, slots, len, shuffle);
    for (uint32_t s = 0; s < len; s++) {
        slots->pool[s] = sequences[s].tokens_max == 0;
        slots->sampling[s] = sequences[s].sampling;
    }
    while (more || done < enqueued) {
        while (more && enqueued - done < drive->depth)
            enqueued += enqueue(drive, sequences, len, enqueued % DEVICE_STEPS, now++, &more);
        if (done < enqueued) {
            unsigned slot = done++ % DEVICE_STEPS;

            collect(drive, sequences, slot);
            if (drive->on_step != NULL && done == enqueued)
                drive->on_step(drive, drive->step[slot], drive->arg);
        }
    }
}
