/*
 * context.c: the KV cache: what is kept of each position, and attention over it.
 *
 * A block holds 32 positions: for each layer and key head K, then V. K is [D][32], so that a query
 * meets LANES positions at once and no sum runs across lanes; V is [32][D], D filled up with zeros to
 * a multiple of 16. All of a block lies together, so that the pool takes memory block by block.
 */
#include "kernels/cpu/cpu.h"

#include "config/log.h"

#include <string.h>

enum { BLOCK = LOOPS_BLOCK, SPAN_QUERIES = 256, HEAD_DIM_MAX = 1024 };

static size_t number_bytes(const struct device_limits *limits)
{
    return limits->kv == ENGINE_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* K of one key head. */
static size_t k_bytes(const struct model_hyper *h, const struct device_limits *limits)
{
    return (size_t)h->head_dim * BLOCK * number_bytes(limits);
}

static size_t v_bytes(const struct model_hyper *h, const struct device_limits *limits)
{
    return (size_t)loops_padded(h->head_dim) * BLOCK * number_bytes(limits);
}

static size_t block_bytes(const struct model_hyper *h, const struct device_limits *limits)
{
    return (size_t)h->layers * h->kv_heads * (k_bytes(h, limits) + v_bytes(h, limits));
}

/* Rows whose queries attention does together. */
static uint32_t span_rows(const struct model_hyper *h)
{
    uint32_t rows = SPAN_QUERIES / (h->heads / h->kv_heads);

    return rows > 0 ? rows : 1;
}

static size_t scratch_bytes(const struct model_hyper *h)
{
    return attend_scratch(span_rows(h), h->heads / h->kv_heads, h->head_dim) * sizeof(float);
}

void context_plan(const struct model_hyper *h, const struct device_limits *limits,
                  uint64_t *ret_kv_bytes, uint64_t *ret_scratch_bytes)
{
    *ret_kv_bytes = limits->blocks * block_bytes(h, limits);
    *ret_scratch_bytes = limits->rows_max * sizeof(struct span) +
                         host_threads(limits) * (scratch_bytes(h) + sizeof(float *));
}

enum err context_open(struct cpu *cpu)
{
    struct memory *memory = &cpu->host.memory;
    const struct model_hyper *h = &cpu->host.hyper;
    const struct device_limits *limits = &cpu->host.limits;
    uint32_t threads = host_threads(limits);

    cpu->half = limits->kv != ENGINE_KV_F32;
    cpu->k_bytes = k_bytes(h, limits);
    cpu->v_bytes = v_bytes(h, limits);
    cpu->block_bytes = block_bytes(h, limits);
    cpu->kv = memory_take(memory, limits->blocks * cpu->block_bytes);
    if (cpu->kv == NULL)
        return fail(ERR_MEMORY, "a KV pool of %zu MiB does not fit into memory",
                    limits->blocks * cpu->block_bytes >> 20);
    cpu->span = memory_take(memory, limits->rows_max * sizeof(*cpu->span));
    cpu->scratch = memory_take(memory, threads * sizeof(*cpu->scratch));
    for (uint32_t i = 0; cpu->scratch != NULL && i < threads; i++) {
        cpu->scratch[i] = memory_take(memory, scratch_bytes(h));
        if (cpu->scratch[i] == NULL)
            cpu->scratch = NULL;
    }
    if (cpu->span == NULL || cpu->scratch == NULL)
        return fail(ERR_MEMORY, "attention over %u rows does not fit into memory",
                    limits->rows_max);
    return ERR_OK;
}

struct job {
    struct cpu *cpu;
    uint32_t layer;
};

/* Where K of a key head lies in a block; V follows it. */
static size_t place_of(const struct cpu *cpu, uint32_t layer, uint32_t group)
{
    return ((size_t)layer * cpu->host.hyper.kv_heads + group) * (cpu->k_bytes + cpu->v_bytes);
}

static const uint32_t *blocks_of(const struct cpu *cpu, uint32_t slot)
{
    return cpu->host.slots.blocks + (size_t)slot * cpu->host.slots.blocks_stride;
}

static void store_half(const struct cpu *cpu, uint8_t *to, uint32_t at, const float *k,
                       const float *v)
{
    uint32_t dims = cpu->host.hyper.head_dim;
    uint16_t *to_k = (uint16_t *)(void *)to + at;
    uint16_t *to_v = (uint16_t *)(void *)(to + cpu->k_bytes);
    __attribute__((uninitialized)) uint16_t half[HEAD_DIM_MAX];

    cpu->loops->to_half(k, dims, half);
    for (uint32_t d = 0; d < dims; d++)
        to_k[(size_t)d * BLOCK] = half[d];
    cpu->loops->to_half(v, dims, to_v + (size_t)at * loops_padded(dims));
}

static void store_float(const struct cpu *cpu, uint8_t *to, uint32_t at, const float *k,
                        const float *v)
{
    uint32_t dims = cpu->host.hyper.head_dim;
    float *to_k = (float *)(void *)to + at;
    float *to_v = (float *)(void *)(to + cpu->k_bytes);

    for (uint32_t d = 0; d < dims; d++)
        to_k[(size_t)d * BLOCK] = k[d];
    memcpy(to_v + (size_t)at * loops_padded(dims), v, dims * sizeof(float));
}

static void qkv_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    const struct cpu *cpu = job->cpu;
    const struct model_hyper *h = &cpu->host.hyper;

    (void)thread;
    for (uint32_t m = begin; m < end; m++) {
        const struct row *row = &cpu->host.row[m];
        uint8_t *block =
            cpu->kv + blocks_of(cpu, row->slot)[row->position / BLOCK] * cpu->block_bytes;
        float *q = act_row(&cpu->host, ACT_QKV, m);
        float *k = q + (size_t)h->heads * h->head_dim;
        float *v = k + (size_t)h->kv_heads * h->head_dim;

        cpu->loops->rotate(q, h->heads + h->kv_heads, h->head_dim, h->rope_dim,
                           cpu->host.angle + (size_t)m * h->rope_dim);
        if (cpu->half)
            cpu->loops->round_half(q, h->heads * h->head_dim);
        for (uint32_t group = 0; group < h->kv_heads; group++, k += h->head_dim, v += h->head_dim)
            (cpu->half ? store_half : store_float)(cpu, block + place_of(cpu, job->layer, group),
                                                   row->position % BLOCK, k, v);
    }
}

void cpu_qkv_post(struct backend *backend, const struct step *step, uint32_t layer)
{
    struct job job = {cpu_of(backend), layer};

    team_run(backend->team, step->rows, backend->act_width[ACT_QKV], qkv_rows, &job);
}

/* Sequences cut into spans: the same for all layers of a step. */
static void make_spans(struct cpu *cpu, const struct step *step)
{
    uint32_t most = span_rows(&cpu->host.hyper);

    cpu->spans = 0;
    for (uint32_t s = 0; s < step->sequences; s++)
        for (uint32_t done = 0; done < step->seq_rows[s]; done += most) {
            uint32_t left = step->seq_rows[s] - done;

            cpu->span[cpu->spans++] =
                (struct span){step->seq_row[s] + done, left < most ? left : most};
        }
}

/* K of an item's first block. */
static const uint8_t *first_k(const struct job *job, uint32_t item)
{
    const struct cpu *cpu = job->cpu;
    uint32_t heads = cpu->host.hyper.kv_heads;
    uint32_t slot = cpu->host.row[cpu->span[item / heads].row].slot;

    return cpu->kv + blocks_of(cpu, slot)[0] * cpu->block_bytes +
           place_of(cpu, job->layer, item % heads);
}

/* An item is a key head of a span. */
static void attend_spans(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct job *job = arg;
    struct cpu *cpu = job->cpu;
    const struct model_hyper *h = &cpu->host.hyper;
    uint32_t heads = h->heads / h->kv_heads;

    for (uint32_t item = begin; item < end; item++) {
        const struct span *span = &cpu->span[item / h->kv_heads];
        const struct row *row = &cpu->host.row[span->row];
        uint32_t group = item % h->kv_heads;
        const uint8_t *k = cpu->kv + place_of(cpu, job->layer, group);
        size_t column = (size_t)group * heads * h->head_dim;

        cpu->loops->attend(&(struct attend){
            .q = act_row(&cpu->host, ACT_QKV, span->row) + column,
            .out = act_row(&cpu->host, ACT_HEADS, span->row) + column,
            .q_stride = cpu->host.act_width[ACT_QKV],
            .out_stride = cpu->host.act_width[ACT_HEADS],
            .rows = span->rows,
            .heads = heads,
            .head_dim = h->head_dim,
            .position = row->position,
            .blocks = blocks_of(cpu, row->slot),
            .k = k,
            .v = k + cpu->k_bytes,
            .ahead = first_k(job, item + 1 < end ? item + 1 : item),
            .block_bytes = cpu->block_bytes,
            .half = cpu->half,
            .scratch = cpu->scratch[thread],
        });
    }
}

/* 30 multiplications a nanosecond, roughly. */
void cpu_attn(struct backend *backend, const struct step *step, uint32_t layer)
{
    const struct model_hyper *h = &backend->hyper;
    struct job job = {cpu_of(backend), layer};
    uint64_t positions = 0;

    if (layer == 0)
        make_spans(job.cpu, step);
    for (uint32_t s = 0; s < step->sequences; s++)
        positions += (uint64_t)step->seq_rows[s] * (step->seq_ctx[s] + step->seq_rows[s]);
    team_run(backend->team, job.cpu->spans * h->kv_heads,
             positions * 2 * h->heads * h->head_dim / (30ull * job.cpu->spans * h->kv_heads),
             attend_spans, &job);
}
