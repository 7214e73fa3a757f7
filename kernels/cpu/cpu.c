/* cpu.c: the tables of the backend, one for each instruction set it can be held to. */
#include "kernels/cpu/cpu.h"

#include "config/log.h"
#include "kernels/cpu/cpu_device.h"

enum { LEVEL_BEST = ISA_COUNT };

const struct loops *loops_of(enum isa isa)
{
#ifdef __x86_64__
    if (isa >= ISA_AVX512)
        return &loops_avx512;
    if (isa == ISA_AVX2)
        return &loops_avx2;
#endif
    (void)isa;
    return &loops_scalar;
}

static enum isa level_of(const struct arithmetic *arithmetic)
{
    return arithmetic->level == LEVEL_BEST ? isa_best() : (enum isa)arithmetic->level;
}

static void plan_cpu(const struct arithmetic *arithmetic, const struct model *model,
                     const struct device_limits *limits, struct engine_plan *ret)
{
    struct weights_plan weights;
    uint64_t scratch;

    weights_plan(level_of(arithmetic), model, limits, &weights);
    context_plan(&model->hyper, limits, &ret->kv_bytes, &scratch);
    ret->weight_bytes = weights.bytes;
    ret->activation_bytes += weights.input_bytes + scratch;
}

static enum err open_cpu(struct backend *backend, const struct model *model)
{
    const struct device_limits *limits = &backend->limits;
    struct cpu *cpu = cpu_of(backend);
    struct weights_plan weights;

    cpu->isa = level_of(backend->arithmetic);
    if (cpu->isa > isa_best())
        return fail(ERR_SETTINGS, "this machine does not run %s; \"cpu\" is the best it has",
                    isa_name(cpu->isa));
    cpu->loops = loops_of(cpu->isa);
    for (uint32_t i = 0; i < host_threads(limits); i++)
        backend->scratch[i].loops = &cpu->loops->sample;
    weights_plan(cpu->isa, model, limits, &weights);
    weights_numerics(cpu->isa, model, limits->kv != ENGINE_KV_F32, cpu->numerics,
                     sizeof(cpu->numerics));
    cpu->input = memory_take(&backend->memory, weights.input_bytes);
    if (cpu->input == NULL)
        return fail(ERR_MEMORY, "steps of %u rows do not fit into memory", limits->rows_max);
    return context_open(cpu);
}

static const char *cpu_numerics(const struct backend *backend)
{
    return ((const struct cpu *)(const void *)backend)->numerics;
}

#define ARITHMETIC(its_level)                                                                      \
    {                                                                                              \
        .size = sizeof(struct cpu), .pinned = true, .level = (its_level), .plan = plan_cpu,        \
        .open = open_cpu, .embed = cpu_embed, .norm = cpu_norm, .linear = cpu_linear,              \
        .qkv_post = cpu_qkv_post, .attn = cpu_attn, .glu = cpu_glu                                 \
    }

static const struct arithmetic best = ARITHMETIC(LEVEL_BEST);
static const struct arithmetic scalar = ARITHMETIC(ISA_SCALAR);
static const struct arithmetic avx2 = ARITHMETIC(ISA_AVX2);
static const struct arithmetic avx512 = ARITHMETIC(ISA_AVX512);

#define OPS(its_name, arithmetic)                                                                  \
    {                                                                                              \
        .name = (its_name), .own = &(arithmetic), .weight = cpu_weight, .numerics = cpu_numerics,  \
        HOST_OPS                                                                                   \
    }

const struct ops cpu_ops = OPS("cpu", best);
const struct ops cpu_scalar_ops = OPS("cpu-scalar", scalar);
const struct ops cpu_avx2_ops = OPS("cpu-avx2", avx2);
const struct ops cpu_avx512_ops = OPS("cpu-avx512", avx512);

/* A device says which table its forward pass uses. */
#define DEVICE(its_device, its_ops, label)                                                         \
    static enum err its_device##_plan(const struct model *model,                                   \
                                      const struct device_limits *limits, struct engine_plan *ret) \
    {                                                                                              \
        return forward_plan(&(its_ops), model, limits, ret);                                       \
    }                                                                                              \
    static enum err its_device##_open(const struct model *model,                                   \
                                      const struct engine_options *options,                        \
                                      const struct device_limits *limits, struct device **ret)     \
    {                                                                                              \
        (void)options;                                                                             \
        return forward_open(&(its_device), &(its_ops), model, limits, ret);                        \
    }                                                                                              \
    const struct device_ops its_device = {                                                         \
        .name = (label), .plan = its_device##_plan, .open = its_device##_open, HOST_DEVICE}

DEVICE(cpu_device, cpu_ops, "cpu");
DEVICE(cpu_scalar_device, cpu_scalar_ops, "cpu-scalar");
DEVICE(cpu_avx2_device, cpu_avx2_ops, "cpu-avx2");
DEVICE(cpu_avx512_device, cpu_avx512_ops, "cpu-avx512");
