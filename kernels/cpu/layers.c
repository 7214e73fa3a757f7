/* layers.c: the operations over rows, cut into pieces for the team. */
#include "kernels/cpu/cpu.h"

#include "kernels/model/tensor.h"

#include <assert.h>

struct job {
    struct cpu *cpu;
    const struct step *step;
    const struct weight *weight;
    bool first;
    enum act in, out;
    uint32_t rows;
};

/* STREAM[m] = row token[m] of the table, out of the file: no second copy of it is kept. */
static void embed_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = &job->cpu->host;
    const struct gguf_tensor *table = job->weight->table;
    const struct tensor_format *format = tensor_format(table->type);
    uint64_t row_bytes = table->dim[0] / format->block_len * format->block_bytes;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        int32_t token = job->step->token[m];
        uint64_t id = token < 0 ? backend->last[backend->row[m].slot] : (uint32_t)token;

        assert(id < table->dim[1]);
        format->to_f32((const uint8_t *)table->data + id * row_bytes, table->dim[0],
                       act_row(backend, ACT_STREAM, m));
    }
}

void cpu_embed(struct backend *backend, const struct step *step, const struct weight *table)
{
    struct job job = {.cpu = cpu_of(backend), .step = step, .weight = table};

    team_run(backend->team, step->rows, backend->hyper.embed, embed_rows, &job);
}

static void norm_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = &job->cpu->host;

    (void)thread;
    for (uint32_t m = begin; m < end; m++)
        job->cpu->loops->norm(act_row(backend, ACT_STREAM, m),
                              job->first ? NULL : act_row(backend, ACT_DELTA, m), job->weight->gain,
                              backend->hyper.embed, backend->hyper.rms_eps,
                              act_row(backend, ACT_NORMED, m));
}

void cpu_norm(struct backend *backend, uint32_t rows, const struct weight *gain, bool first)
{
    struct job job = {.cpu = cpu_of(backend), .weight = gain, .first = first};

    team_run(backend->team, rows, backend->hyper.embed / 4, norm_rows, &job);
}

static void prepare_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = &job->cpu->host;
    const struct matrix *matrix = &job->weight->matrix;

    (void)thread;
    matrix_prepare(matrix, act_row(backend, job->in, begin), backend->act_width[job->in],
                   end - begin, job->cpu->input + begin * matrix->row_bytes);
}

/* An item is a tile of outputs, for all rows. */
static void multiply_tiles(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = &job->cpu->host;
    const struct matrix *matrix = &job->weight->matrix;
    uint32_t last = end * matrix->tile;

    (void)thread;
    matrix_multiply(matrix, job->cpu->input, job->rows, begin * matrix->tile,
                    last < matrix->outputs ? last : matrix->outputs, backend->act[job->out],
                    backend->act_width[job->out]);
}

/* A tile takes the time of its products, at 150 a nanosecond, or of reading it, at 15 bytes. */
void cpu_linear(struct backend *backend, const struct weight *weight, enum act in, enum act out,
                uint32_t rows)
{
    const struct matrix *matrix = &weight->matrix;
    struct job job = {.cpu = cpu_of(backend), .weight = weight, .in = in, .out = out, .rows = rows};
    uint64_t products = (uint64_t)rows * matrix->tile * matrix->inputs / 150;
    uint64_t reading = matrix->tile_bytes / 15;

    team_run(backend->team, rows, matrix->inputs / 4, prepare_rows, &job);
    team_run(backend->team, (matrix->outputs + matrix->tile - 1) / matrix->tile,
             products > reading ? products : reading, multiply_tiles, &job);
}

static void glu_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct backend *backend = &job->cpu->host;
    uint32_t len = backend->hyper.ff;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        const float *pair = act_row(backend, ACT_PAIR, m);

        job->cpu->loops->glu(pair, pair + len, len, act_row(backend, ACT_FF, m));
    }
}

void cpu_glu(struct backend *backend, uint32_t rows)
{
    struct job job = {.cpu = cpu_of(backend)};

    team_run(backend->team, rows, backend->hyper.ff, glu_rows, &job);
}
