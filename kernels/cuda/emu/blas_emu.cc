/*
 * blas_emu.cc: cuBLASLt as plain loops, with the habits that make a tuner necessary. Its algorithms
 * are a table: some add K up in ascending order, whatever the number of rows; some do otherwise for
 * a few rows, some at some places, one lets its neighbours' NaN through, one forgets the end of K,
 * some refuse certain numbers of rows. What it proposes first for a few rows is wrong.
 *
 * MSERVE_EMU blas=hostile leaves only those that are wrong; blas=none has no library at all;
 * blas_clock=N makes up how long each takes, a different story for each N.
 */
#include "kernels/cuda/blas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/emu/gpu_emu.cuh"
#include "kernels/cuda/simt.cuh"

enum { VERSION = 130100, ALIGNMENT = 16, COLUMNS = 16, ROWS = 2, BLOCK = 16, TAIL = 8 };

/* ---- algorithms ---- */

enum order {
    ORDER_ASCENDING,
    ORDER_BLOCKS, /* sums of 16 are added up */
    ORDER_LANES,  /* four sums of every fourth, folded as a tree */
    ORDER_SPLIT,  /* two halves, and what does not fill both is lost */
    ORDER_LOST,   /* ascending, the last 8 are lost */
    ORDER_PLACE,  /* ascending, but at odd places as blocks */
    ORDER_LEAK,   /* ascending, plus nothing times the next row */
};

static const struct family {
    int32_t id;
    uint32_t tile;
    enum order order;
    uint32_t least, most, multiple; /* of rows */
    int32_t split_k;
    uint32_t reduction;
    size_t workspace_bytes;
} families[] = {
    /* In the order in which they are proposed: the best guess first, and for few rows it is wrong. */
    {13, 5, ORDER_LANES, 1, 64, 1, 1, 0, 0},
    {66, 4, ORDER_BLOCKS, 1, 96, 1, 1, 0, 0},
    {71, 6, ORDER_LOST, 1, UINT32_MAX, 1, 1, 0, 0},
    {24, 8, ORDER_PLACE, 1, UINT32_MAX, 1, 1, 0, 0},
    {66, 7, ORDER_SPLIT, 1, 1024, 1, 2, 2, 4096},
    {66, 3, ORDER_ASCENDING, 128, UINT32_MAX, 128, 1, 0, 0},
    {66, 2, ORDER_ASCENDING, 64, UINT32_MAX, 64, 1, 0, 0},
    {25, 9, ORDER_LEAK, 1, UINT32_MAX, 1, 1, 0, 0},
    {31, 1, ORDER_ASCENDING, 32, 192, 1, 1, 0, 0},
};

enum { FAMILIES = sizeof(families) / sizeof(families[0]), MAGIC = 0x6d73 };

/* What stands in the 64 bytes. */
struct emu_algo {
    uint32_t magic, family;
    uint32_t rest[14];
};
static_assert(sizeof(struct emu_algo) == sizeof(struct blas_algo), "an algorithm has 64 bytes");

static const struct family *family_of(const struct blas_algo *algo)
{
    struct emu_algo own;

    memcpy(&own, algo, sizeof(own));
    return own.magic == MAGIC && own.family < FAMILIES ? &families[own.family] : NULL;
}

/* ---- descriptors ---- */

struct handle {
    struct emu_settings settings;
};

struct desc {
    int32_t compute, scale, transposed[2], mode[2];
    const float *scales[2];
    int8_t fast;
};

struct layout {
    int32_t type;
    uint64_t rows, columns;
    int64_t stride;
};

struct preference {
    uint64_t workspace_bytes;
    uint32_t reduction, alignment[4];
};

template <class T> static int32_t make(void **ret, T value)
{
    T *at = static_cast<T *>(malloc(sizeof(T)));

    if (at == NULL)
        return 3;
    *at = value;
    *ret = at;
    return BLAS_SUCCESS;
}

static int32_t drop(void *at)
{
    free(at);
    return BLAS_SUCCESS;
}

static int32_t set(void *field, size_t room, const void *value, size_t size)
{
    if (value == NULL || size != room)
        return BLAS_INVALID;
    memcpy(field, value, size);
    return BLAS_SUCCESS;
}

/* M, N, K of a call, and whether everything fits together. */
struct sizes {
    uint32_t rows, outputs, inputs;
    int32_t in, out;
};

static bool types_fit(const struct handle *handle, const struct desc *desc,
                      const struct sizes *sizes)
{
    bool outer = desc->mode[0] == BLAS_SCALE_OUTER_VEC && desc->mode[1] == BLAS_SCALE_OUTER_VEC;

    switch (sizes->in) {
    case BLAS_BF16:
        return desc->compute == BLAS_COMPUTE_32F &&
               (sizes->out == BLAS_BF16 || sizes->out == BLAS_F32);
    case BLAS_FP8: /* scales for rows and columns: Hopper alone */
        return desc->compute == BLAS_COMPUTE_32F && outer && desc->scales[0] != NULL &&
               desc->scales[1] != NULL && handle->settings.capability >= 90 &&
               sizes->inputs % 16 == 0 && (sizes->out == BLAS_BF16 || sizes->out == BLAS_F32);
    case BLAS_INT8:
        return desc->compute == BLAS_COMPUTE_32I && desc->scale == BLAS_INT32 &&
               sizes->inputs % 4 == 0 && sizes->out == BLAS_INT32;
    default:
        return false;
    }
}

static bool read_sizes(void *handle, void *desc_at, void *const layout_at[4], struct sizes *ret)
{
    const struct desc *desc = static_cast<const struct desc *>(desc_at);
    const struct layout *a = static_cast<const struct layout *>(layout_at[0]);
    const struct layout *b = static_cast<const struct layout *>(layout_at[1]);
    const struct layout *c = static_cast<const struct layout *>(layout_at[2]);
    const struct layout *d = static_cast<const struct layout *>(layout_at[3]);

    *ret = {static_cast<uint32_t>(d->columns), static_cast<uint32_t>(d->rows),
            static_cast<uint32_t>(a->rows), a->type, d->type};
    return desc->transposed[0] == BLAS_OP_T && desc->transposed[1] == BLAS_OP_N &&
           a->type == b->type && c->type == d->type && a->columns == d->rows &&
           b->rows == a->rows && b->columns == d->columns && c->rows == d->rows &&
           c->columns == d->columns && a->stride == static_cast<int64_t>(a->rows) &&
           b->stride == static_cast<int64_t>(b->rows) &&
           d->stride == static_cast<int64_t>(d->rows) &&
           types_fit(static_cast<const struct handle *>(handle), desc, ret);
}

static bool does(const struct handle *handle, const struct family *family, uint32_t rows)
{
    bool right = family->order == ORDER_ASCENDING || family->order == ORDER_BLOCKS;

    return rows >= family->least && rows <= family->most && rows % family->multiple == 0 &&
           !(handle->settings.blas == EMU_BLAS_HOSTILE && right);
}

/* Before Hopper its family is not there, and others have another number. */
static int32_t id_of(const struct handle *handle, const struct family *family)
{
    return family->id == 66 && handle->settings.capability < 90 ? 6 : family->id;
}

/* ---- one product ---- */

struct alignas(16) product_call {
    const void *weight, *in;
    const float *weight_scale, *in_scale;
    void *out;
    struct sizes sizes;
    enum order order;
    bool fast;
    uint64_t pretend_ns;
};

static float number(int32_t type, const void *from, size_t i)
{
    if (type == BLAS_BF16)
        return bf16_value(static_cast<const uint16_t *>(from)[i]);
    if (type == BLAS_FP8)
        return fp8_decode(static_cast<const uint8_t *>(from)[i]);
    return static_cast<const int8_t *>(from)[i];
}

/* sum[r][j] += a[r][k] w[k][j] for k = from, from + step, … below `to`. */
template <class T>
static inline void add_up(T sum[ROWS][COLUMNS], const T *a, size_t inputs, const T *w,
                          uint32_t from, uint32_t to, uint32_t step)
{
    T held[ROWS][COLUMNS];

    memcpy(held, sum, sizeof(held));
    for (uint32_t k = from; k < to; k += step)
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t j = 0; j < COLUMNS; j++)
                held[r][j] += a[r * inputs + k] * w[static_cast<size_t>(k) * COLUMNS + j];
    memcpy(sum, held, sizeof(held));
}

template <class T> static void fold(T sum[ROWS][COLUMNS], T part[ROWS][COLUMNS])
{
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t j = 0; j < COLUMNS; j++)
            sum[r][j] += part[r][j];
}

template <class T>
static void add_blocks(T sum[ROWS][COLUMNS], const T *a, uint32_t inputs, const T *w)
{
    for (uint32_t k = 0; k < inputs; k += BLOCK) {
        T part[ROWS][COLUMNS] = {};

        add_up(part, a, inputs, w, k, k + BLOCK < inputs ? k + BLOCK : inputs, 1);
        fold(sum, part);
    }
}

template <class T>
static void add_lanes(T sum[ROWS][COLUMNS], const T *a, uint32_t inputs, const T *w)
{
    T part[4][ROWS][COLUMNS] = {};

    for (uint32_t lane = 0; lane < 4; lane++)
        add_up(part[lane], a, inputs, w, lane, inputs, 4);
    fold(part[0], part[1]);
    fold(part[2], part[3]);
    fold(part[0], part[2]);
    fold(sum, part[0]);
}

/* Floats without FAST_ACCUM keep all their bits; with it 14 of them, every 32 numbers. */
static void add_fast(float sum[ROWS][COLUMNS], const float *a, uint32_t inputs, const float *w)
{
    for (uint32_t k = 0; k < inputs; k += 32) {
        add_up(sum, a, inputs, w, k, k + 32 < inputs ? k + 32 : inputs, 1);
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t j = 0; j < COLUMNS; j++)
                sum[r][j] = float_of(bits_of(sum[r][j]) & 0xfffffc00u);
    }
}

static void add_fast(int32_t sum[ROWS][COLUMNS], const int32_t *a, uint32_t inputs,
                     const int32_t *w)
{
    add_up(sum, a, inputs, w, 0, inputs, 1);
}

template <class T>
static void add_as(const struct product_call *call, T sum[ROWS][COLUMNS], const T *a, const T *w)
{
    const uint32_t inputs = call->sizes.inputs, half = inputs / 2 / BLOCK * BLOCK;

    switch (call->order) {
    case ORDER_BLOCKS:
        add_blocks(sum, a, inputs, w);
        break;
    case ORDER_LANES:
        add_lanes(sum, a, inputs, w);
        break;
    case ORDER_SPLIT: {
        T part[ROWS][COLUMNS] = {};

        add_up(sum, a, inputs, w, 0, half, 1);
        add_up(part, a, inputs, w, half, 2 * half, 1);
        fold(sum, part);
        break;
    }
    case ORDER_LOST:
        add_up(sum, a, inputs, w, 0, inputs - TAIL, 1);
        break;
    default:
        if (call->fast)
            add_fast(sum, a, inputs, w);
        else
            add_up(sum, a, inputs, w, 0, inputs, 1);
    }
}

static void write(const struct product_call *call, uint32_t row, uint32_t column, float sum)
{
    size_t at = static_cast<size_t>(row) * call->sizes.outputs + column;

    if (call->sizes.in == BLAS_FP8)
        sum = sum * call->weight_scale[column] * call->in_scale[row];
    if (call->sizes.out == BLAS_F32)
        static_cast<float *>(call->out)[at] = sum;
    else
        static_cast<uint16_t *>(call->out)[at] = bf16_of(sum);
}

static void write(const struct product_call *call, uint32_t row, uint32_t column, int32_t sum)
{
    static_cast<int32_t *>(call->out)[static_cast<size_t>(row) * call->sizes.outputs + column] =
        sum;
}

/* ROWS rows from `row` on, COLUMNS columns from `column` on, of which some may be past the end. */
template <class T>
static void make_tile(const struct product_call *call, const T *a, const T *w, uint32_t row,
                      uint32_t column)
{
    const struct sizes *sizes = &call->sizes;
    T sum[ROWS][COLUMNS] = {};

    add_as(call, sum, a, w);
    if (call->order == ORDER_PLACE) { /* rows come in pairs: the second is at an odd place */
        T other[ROWS][COLUMNS] = {};

        add_blocks(other, a, sizes->inputs, w);
        memcpy(sum[1], other[1], sizeof(sum[1]));
    }
    for (uint32_t r = 0; r < ROWS && row + r < sizes->rows; r++)
        for (uint32_t j = 0; j < COLUMNS && column + j < sizes->outputs; j++) {
            T value = sum[r][j];

            if (call->order == ORDER_LEAK && r == 0 && row + 1 < sizes->rows)
                value += 0 * a[sizes->inputs];
            write(call, row + r, column + j, value);
        }
}

template <class T> static void multiply(struct gpu *gpu, const struct product_call *call)
{
    const struct sizes *sizes = &call->sizes;
    const size_t inputs = sizes->inputs;
    T *a = static_cast<T *>(calloc((sizes->rows + ROWS) * inputs, sizeof(T)));
    T *w = static_cast<T *>(malloc(COLUMNS * inputs * sizeof(T)));

    if (a == NULL || w == NULL)
        emu_fault(gpu, "there is no memory for a product of %u x %u", sizes->outputs,
                  sizes->inputs);
    for (size_t i = 0; a != NULL && w != NULL && i < sizes->rows * inputs; i++)
        a[i] = static_cast<T>(number(sizes->in, call->in, i));
    for (uint32_t column = 0; a != NULL && w != NULL && column < sizes->outputs;
         column += COLUMNS) {
        for (size_t k = 0; k < inputs; k++)
            for (uint32_t j = 0; j < COLUMNS; j++)
                w[k * COLUMNS + j] =
                    column + j < sizes->outputs
                        ? static_cast<T>(number(sizes->in, call->weight, (column + j) * inputs + k))
                        : 0;
        for (uint32_t row = 0; row < sizes->rows; row += ROWS)
            make_tile(call, a + row * inputs, w, row, column);
    }
    free(a);
    free(w);
}

static void run_product(struct gpu *gpu, const void *args)
{
    const struct product_call *call = static_cast<const struct product_call *>(args);

    if (call->sizes.in == BLAS_INT8)
        multiply<int32_t>(gpu, call);
    else
        multiply<float>(gpu, call);
    emu_spend(gpu, call->pretend_ns);
}

/* ---- the functions ---- */

extern "C" int32_t emu_cublasLtCreate(void **ret)
{
    struct handle handle;
    const char *why;

    if (!emu_settings_read(&handle.settings, &why))
        return BLAS_NOT_INITIALIZED;
    return make(ret, handle);
}

extern "C" int32_t emu_cublasLtDestroy(void *handle)
{
    return drop(handle);
}

extern "C" size_t emu_cublasLtGetVersion(void)
{
    return VERSION;
}

extern "C" const char *emu_cublasLtGetStatusString(int32_t status)
{
    switch (status) {
    case BLAS_SUCCESS:
        return "it is done";
    case BLAS_INVALID:
        return "an argument is not valid";
    case BLAS_NOT_SUPPORTED:
        return "there is no such product";
    default:
        return "it failed";
    }
}

extern "C" int32_t emu_cublasLtMatmulDescCreate(void **ret, int32_t compute, int32_t scale)
{
    return make(ret, desc{compute, scale, {}, {}, {}, 0});
}

extern "C" int32_t emu_cublasLtMatmulDescDestroy(void *at)
{
    return drop(at);
}

extern "C" int32_t emu_cublasLtMatmulDescSetAttribute(void *at, int32_t attribute,
                                                      const void *value, size_t size)
{
    struct desc *desc = static_cast<struct desc *>(at);

    switch (attribute) {
    case BLAS_DESC_TRANSA:
    case BLAS_DESC_TRANSB:
        return set(&desc->transposed[attribute - BLAS_DESC_TRANSA], 4, value, size);
    case BLAS_DESC_A_SCALE_POINTER:
    case BLAS_DESC_B_SCALE_POINTER:
        return set(&desc->scales[attribute - BLAS_DESC_A_SCALE_POINTER], sizeof(void *), value,
                   size);
    case BLAS_DESC_FAST_ACCUM:
        return set(&desc->fast, 1, value, size);
    case BLAS_DESC_A_SCALE_MODE:
    case BLAS_DESC_B_SCALE_MODE:
        return set(&desc->mode[attribute - BLAS_DESC_A_SCALE_MODE], 4, value, size);
    default:
        return BLAS_INVALID;
    }
}

extern "C" int32_t emu_cublasLtMatrixLayoutCreate(void **ret, int32_t type, uint64_t rows,
                                                  uint64_t columns, int64_t stride)
{
    return make(ret, layout{type, rows, columns, stride});
}

extern "C" int32_t emu_cublasLtMatrixLayoutDestroy(void *at)
{
    return drop(at);
}

extern "C" int32_t emu_cublasLtMatmulPreferenceCreate(void **ret)
{
    return make(ret, preference{0, 7, {256, 256, 256, 256}});
}

extern "C" int32_t emu_cublasLtMatmulPreferenceDestroy(void *at)
{
    return drop(at);
}

extern "C" int32_t emu_cublasLtMatmulPreferenceSetAttribute(void *at, int32_t attribute,
                                                            const void *value, size_t size)
{
    struct preference *preference = static_cast<struct preference *>(at);

    if (attribute == BLAS_PREF_MAX_WORKSPACE)
        return set(&preference->workspace_bytes, 8, value, size);
    if (attribute == BLAS_PREF_REDUCTION_SCHEME)
        return set(&preference->reduction, 4, value, size);
    if (attribute >= BLAS_PREF_MIN_ALIGNMENT_A && attribute <= BLAS_PREF_MIN_ALIGNMENT_D)
        return set(&preference->alignment[attribute - BLAS_PREF_MIN_ALIGNMENT_A], 4, value, size);
    return BLAS_INVALID;
}

extern "C" int32_t emu_cublasLtMatmulAlgoGetHeuristic(void *handle_at, void *desc, void *a, void *b,
                                                      void *c, void *d, void *preference_at,
                                                      int wanted, struct blas_proposal *ret,
                                                      int *ret_len)
{
    const struct handle *handle = static_cast<const struct handle *>(handle_at);
    const struct preference *preference = static_cast<const struct preference *>(preference_at);
    void *const layouts[4] = {a, b, c, d};
    struct sizes sizes;
    int len = 0;

    *ret_len = 0;
    if (wanted < 1)
        return BLAS_INVALID;
    if (!read_sizes(handle_at, desc, layouts, &sizes))
        return BLAS_NOT_SUPPORTED;
    for (uint32_t i = 0; i < FAMILIES && len < wanted; i++) {
        const struct family *family = &families[i];
        const struct emu_algo own = {MAGIC, i, {}};

        if (!does(handle, family, sizes.rows) ||
            family->workspace_bytes > preference->workspace_bytes ||
            (family->reduction != 0 && (family->reduction & preference->reduction) == 0))
            continue;
        ret[len] = {};
        memcpy(&ret[len].algo, &own, sizeof(own));
        ret[len].workspace_bytes = family->workspace_bytes;
        ret[len++].waves = 1;
    }
    *ret_len = len;
    return len > 0 ? BLAS_SUCCESS : BLAS_NOT_SUPPORTED;
}

extern "C" int32_t emu_cublasLtMatmulAlgoCheck(void *handle, void *desc, void *a, void *b, void *c,
                                               void *d, const struct blas_algo *algo,
                                               struct blas_proposal *ret)
{
    const struct family *family = family_of(algo);
    void *const layouts[4] = {a, b, c, d};
    struct sizes sizes;

    if (family == NULL)
        return BLAS_INVALID;
    if (!read_sizes(handle, desc, layouts, &sizes) ||
        !does(static_cast<const struct handle *>(handle), family, sizes.rows))
        return BLAS_NOT_SUPPORTED;
    ret->workspace_bytes = family->workspace_bytes;
    ret->state = BLAS_SUCCESS;
    ret->waves = 1;
    return BLAS_SUCCESS;
}

extern "C" int32_t emu_cublasLtMatmulAlgoConfigGetAttribute(const struct blas_algo *algo,
                                                            int32_t attribute, void *value,
                                                            size_t size, size_t *ret_written)
{
    const struct family *family = family_of(algo);
    struct handle now;
    const char *why;
    uint32_t answer;

    if (family == NULL || size != sizeof(answer) || !emu_settings_read(&now.settings, &why))
        return BLAS_INVALID;
    switch (attribute) {
    case BLAS_ALGO_ID:
        answer = static_cast<uint32_t>(id_of(&now, family));
        break;
    case BLAS_ALGO_TILE:
        answer = family->tile;
        break;
    case BLAS_ALGO_SPLITK_NUM:
        answer = static_cast<uint32_t>(family->split_k);
        break;
    case BLAS_ALGO_REDUCTION_SCHEME:
        answer = family->reduction;
        break;
    case BLAS_ALGO_STAGES:
        answer = 1;
        break;
    default:
        return BLAS_INVALID;
    }
    memcpy(value, &answer, sizeof(answer));
    *ret_written = sizeof(answer);
    return BLAS_SUCCESS;
}

/*
 * Between 1 and 100 ms, far from what this machine itself may take, and nobody waits for it; another
 * number for each clock, algorithm and number of rows.
 */
static uint64_t pretend_ns(const struct handle *handle, const struct family *family, uint32_t rows)
{
    uint64_t mixed = handle->settings.blas_clock * 0x9e3779b97f4a7c15ull;

    if (handle->settings.blas_clock == 0)
        return 0;
    mixed = (mixed ^ (family->tile + 1) * 0xbf58476d1ce4e5b9ull ^ rows) * 0x94d049bb133111ebull;
    return 1000000 + (mixed >> 33) % 99000000;
}

extern "C" int32_t emu_cublasLtMatmul(void *handle_at, void *desc_at, const void *alpha,
                                      const void *a, void *a_layout, const void *b, void *b_layout,
                                      const void *beta, const void *, void *c_layout, void *d,
                                      void *d_layout, const struct blas_algo *algo, void *workspace,
                                      size_t workspace_bytes, void *stream)
{
    const struct handle *handle = static_cast<const struct handle *>(handle_at);
    const struct desc *desc = static_cast<const struct desc *>(desc_at);
    const struct family *family = family_of(algo);
    void *const layouts[4] = {a_layout, b_layout, c_layout, d_layout};
    const uint32_t one = desc->compute == BLAS_COMPUTE_32I ? 1 : bits_of(1);
    struct product_call call = {
        a, b, desc->scales[0], desc->scales[1], d, {}, ORDER_ASCENDING, desc->fast != 0, 0};

    if (family == NULL || !read_sizes(handle_at, desc_at, layouts, &call.sizes) ||
        memcmp(alpha, &one, sizeof(one)) != 0 || bits_of(*static_cast<const float *>(beta)) != 0 ||
        (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
         reinterpret_cast<uintptr_t>(d)) %
                ALIGNMENT !=
            0 ||
        workspace_bytes < family->workspace_bytes ||
        (family->workspace_bytes > 0 && workspace == NULL))
        return BLAS_INVALID;
    if (!does(handle, family, call.sizes.rows))
        return BLAS_NOT_SUPPORTED;
    call.order = family->order;
    call.pretend_ns = pretend_ns(handle, family, call.sizes.rows);
    emu_enqueue(static_cast<struct gpu *>(stream), "cublasLtMatmul", run_product, &call,
                sizeof(call));
    return BLAS_SUCCESS;
}
