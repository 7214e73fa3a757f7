/* The data are made on the host for one period, and doubled on the card until they are long enough. */
#include "kernels/cuda/probe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"

enum {
    WORKSPACE_MAX = 32 << 20,
    RIGHT_COLUMNS = 9,
    SPLITS = 8,
    RUNS_MIN = 2,
    RUNS_MAX = 16,
    TAIL = 16,
    NAN_ROW = PROBE_ROWS
};

static const float TIMED_MS = 0.3f; /* about so long is a product timed for its average */

static uint32_t draw(uint64_t *seed)
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return (uint32_t)(*seed * 0x2545f4914f6cdd1dull >> 32);
}

/* ---- numbers, as uint16_t whatever their type ---- */

static uint16_t any_number(enum number type, bool even, uint64_t *seed)
{
    uint32_t bits = draw(seed), exponent = even ? 127 : 121 + (bits >> 8) % 13;

    if (type == NUMBER_BF16)
        return (uint16_t)((bits & 0x8000) | exponent << 7 | (bits & 0x7f));
    if (type == NUMBER_FP8)
        return (uint16_t)((bits & 0x80) | (even ? 0x38 | (bits >> 8 & 7) : (bits >> 8) % 0x7f));
    return (uint8_t)(int8_t)((int32_t)(bits % 255) - 127);
}

static uint16_t negative(enum number type, uint16_t number)
{
    if (type == NUMBER_BF16)
        return number ^ 0x8000;
    return type == NUMBER_FP8 ? number ^ 0x80 : (uint8_t)-number;
}

static double value_of(enum number type, const void *at, size_t i)
{
    if (type == NUMBER_BF16) {
        uint32_t bits = (uint32_t)((const uint16_t *)at)[i] << 16;
        float value;

        memcpy(&value, &bits, sizeof(value));
        return (double)value;
    }
    if (type == NUMBER_FP8) {
        uint8_t bits = ((const uint8_t *)at)[i];
        double size =
            bits & 0x78 ? ldexp(8 + (bits & 7), (bits >> 3 & 15) - 10) : ldexp(bits & 7, -9);

        return bits & 0x80 ? -size : size;
    }
    return ((const int8_t *)at)[i];
}

static void store(enum number type, void *at, size_t i, uint16_t number)
{
    if (type == NUMBER_BF16)
        ((uint16_t *)at)[i] = number;
    else
        ((uint8_t *)at)[i] = (uint8_t)number;
}

static uint16_t load(enum number type, const void *at, size_t i)
{
    return type == NUMBER_BF16 ? ((const uint16_t *)at)[i] : ((const uint8_t *)at)[i];
}

/* ---- rows ---- */

enum row_kind { ROW_MIXED, ROW_HALVES, ROW_NEIGHBOURS, ROW_EVEN, ROW_TAIL };

static void make_row(enum number type, enum row_kind kind, bool opposed, void *row, uint32_t len,
                     uint64_t *seed)
{
    for (uint32_t k = 0; k < len; k++) {
        uint16_t number = any_number(type, kind == ROW_EVEN, seed);

        if (kind == ROW_HALVES && k >= len / 2)
            number = load(type, row, k - len / 2);
        else if (kind == ROW_NEIGHBOURS && k % 2)
            number = load(type, row, k - 1);
        else if (kind == ROW_TAIL && k + TAIL < len)
            number = 0;
        if (opposed && ((kind == ROW_HALVES && k >= len / 2) || (kind == ROW_NEIGHBOURS && k % 2)))
            number = negative(type, number);
        store(type, row, k, number);
    }
    /* So that what is left over is not always zero. */
    for (uint32_t i = 0; opposed && i < 4; i++)
        store(type, row, draw(seed) % len, any_number(type, true, seed));
}

static void make_numbers(struct probe *probe)
{
    static const enum row_kind rows[] = {ROW_MIXED,      ROW_HALVES, ROW_NEIGHBOURS, ROW_HALVES,
                                         ROW_NEIGHBOURS, ROW_TAIL,   ROW_MIXED,      ROW_EVEN};
    static const enum row_kind weights[] = {ROW_MIXED, ROW_HALVES, ROW_NEIGHBOURS};
    const enum number type = probe->shape.weight;
    const size_t row_bytes = probe->shape.inputs * number_bytes(type);
    uint64_t seed = 0x9e3779b97f4a7c15ull;

    for (uint32_t i = 0; i < PROBE_ROWS; i++) {
        enum row_kind kind = rows[i % (sizeof(rows) / sizeof(rows[0]))];

        make_row(type, kind, true, (char *)probe->rows + i * row_bytes, probe->shape.inputs, &seed);
        probe->row_scale[i] = ldexpf(1 + (float)(draw(&seed) % 128) / 128, -(int)(i % 7));
    }
    for (uint32_t i = 0; i < PROBE_WEIGHTS; i++) {
        make_row(type, weights[i % 3], false, (char *)probe->weights + i * row_bytes,
                 probe->shape.inputs, &seed);
        probe->column_scale[i] = ldexpf(1 + (float)(draw(&seed) % 128) / 128, -(int)(i % 5));
    }
}

/* Which row stands at each place of a period; NAN_ROW: none that means anything. */
static void arrange(enum arrangement kind, uint32_t row[PROBE_PERIOD])
{
    uint64_t seed = 0xd1b54a32d192ed03ull + kind;

    for (uint32_t i = 0; i < PROBE_PERIOD; i++) {
        row[i] = i < PROBE_ROWS ? i : draw(&seed) % PROBE_ROWS;
        if (kind == PROBE_ODD && draw(&seed) % 3 == 0)
            row[i] = NAN_ROW;
        if (kind == PROBE_ONE)
            row[i] = 1;
    }
    for (uint32_t i = PROBE_PERIOD; kind != PROBE_ONE && --i > 0;) {
        uint32_t other = draw(&seed) % (i + 1), kept = row[i];

        row[i] = row[other];
        row[other] = kept;
    }
}

/* ---- the card ---- */

static const struct gpu_module *module_of(const struct probe *probe)
{
    return probe->set->module;
}

static void wait_for_card(struct probe *probe)
{
    module_of(probe)->event_record(probe->set->gpu, probe->set->event);
    module_of(probe)->event_wait(probe->set->gpu, probe->set->event, -1);
}

/* Puts `bytes` from probe->host at `to`, again and again until there are `all`. */
static void repeat(struct probe *probe, void *to, size_t bytes, size_t all)
{
    size_t len = bytes < all ? bytes : all;

    module_of(probe)->copy(probe->set->gpu, to, probe->host, len);
    while (len < all) {
        size_t more = len < all - len ? len : all - len;

        module_of(probe)->copy(probe->set->gpu, (char *)to + len, to, more);
        len += more;
    }
    wait_for_card(probe);
}

static void put_weights(struct probe *probe)
{
    const size_t row_bytes = probe->shape.inputs * number_bytes(probe->shape.weight);
    const size_t outputs = probe->shape.outputs;

    memcpy(probe->host, probe->weights, PROBE_WEIGHTS * row_bytes);
    repeat(probe, probe->weight, PROBE_WEIGHTS * row_bytes, outputs * row_bytes);
    memcpy(probe->host, probe->column_scale, sizeof(probe->column_scale));
    repeat(probe, probe->weight_scale, sizeof(probe->column_scale), outputs * sizeof(float));
}

static void put_rows(struct probe *probe, enum arrangement kind)
{
    const size_t row_bytes = probe->shape.inputs * number_bytes(probe->shape.weight);
    uint32_t row[PROBE_PERIOD];

    arrange(kind, row);
    for (uint32_t i = 0; i < PROBE_PERIOD; i++) {
        char *to = (char *)probe->host + i * row_bytes;

        if (row[i] == NAN_ROW)
            memset(to, 0xff, row_bytes);
        else
            memcpy(to, (char *)probe->rows + row[i] * row_bytes, row_bytes);
    }
    repeat(probe, probe->in[kind], PROBE_PERIOD * row_bytes, probe->most * row_bytes);
    for (uint32_t i = 0; i < PROBE_PERIOD; i++)
        ((float *)probe->host)[i] = row[i] == NAN_ROW ? NAN : probe->row_scale[row[i]];
    repeat(probe, probe->in_scale[kind], sizeof(row), probe->most * sizeof(float));
    for (uint32_t i = PROBE_PERIOD; kind == PROBE_MIXED && i-- > 0;)
        probe->place[row[i]] = i;
    for (uint32_t i = 0; i < PROBE_PERIOD; i++)
        ((uint32_t *)probe->host)[i] = row[i] == NAN_ROW ? SAME_ANY : probe->place[row[i]];
    repeat(probe, probe->row[kind], sizeof(row), probe->most * sizeof(uint32_t));
}

static size_t segments_of(const struct probe *probe)
{
    return (probe->out_row_bytes + SAME_SEGMENT - 1) / SAME_SEGMENT;
}

/* Each thing on the card: where its pointer goes and its bytes; used to count and to take. */
struct piece {
    void **at;
    size_t bytes;
};

enum { PIECES = 6 + 3 * PROBE_ARRANGEMENTS };

static void list_pieces(struct probe *probe, struct piece piece[PIECES])
{
    const size_t outputs = probe->shape.outputs, most = probe->most;
    const size_t row_bytes = probe->shape.inputs * number_bytes(probe->shape.weight);
    unsigned len = 0;

    piece[len++] = (struct piece){&probe->weight, outputs * row_bytes};
    piece[len++] = (struct piece){(void **)&probe->weight_scale, outputs * sizeof(float)};
    piece[len++] = (struct piece){&probe->out, most * probe->out_row_bytes};
    piece[len++] = (struct piece){&probe->want, PROBE_PERIOD * probe->out_row_bytes};
    piece[len++] = (struct piece){&probe->workspace, probe->workspace_bytes};
    piece[len++] = (struct piece){(void **)&probe->differs,
                                  most * segments_of(probe) * PROBE_ARRANGEMENTS * 4};
    for (unsigned i = 0; i < PROBE_ARRANGEMENTS; i++) {
        piece[len++] = (struct piece){&probe->in[i], most * row_bytes};
        piece[len++] = (struct piece){(void **)&probe->in_scale[i], most * sizeof(float)};
        piece[len++] = (struct piece){(void **)&probe->row[i], most * sizeof(uint32_t)};
    }
}

static void size_up(struct matmul_set *set, const struct matmul_shape *shape, struct probe *probe)
{
    uint32_t most = matmul_padded(set, shape->rows_max);

    *probe = (struct probe){.set = set, .shape = *shape};
    probe->most = most > CLASS_ROWS ? most : CLASS_ROWS;
    probe->out_row_bytes = shape->outputs * number_bytes(shape->out);
    /* What splits of K can fill with their floats, or what they are content with. */
    probe->workspace_bytes = (size_t)SPLITS * probe->most * shape->outputs * sizeof(float);
    if (probe->workspace_bytes > WORKSPACE_MAX)
        probe->workspace_bytes = WORKSPACE_MAX;
}

size_t probe_bytes(const struct matmul_set *set, const struct matmul_shape *shape)
{
    struct piece piece[PIECES];
    struct probe probe;
    size_t bytes = 0;

    size_up((struct matmul_set *)set, shape, &probe);
    list_pieces(&probe, piece);
    for (unsigned i = 0; i < PIECES; i++)
        bytes += (piece[i].bytes + 255) / 256 * 256;
    return bytes;
}

static bool take_all(struct probe *probe)
{
    const size_t row_bytes = probe->shape.inputs * number_bytes(probe->shape.weight);
    struct piece piece[PIECES];

    list_pieces(probe, piece);
    for (unsigned i = 0; i < PIECES; i++) {
        *piece[i].at = module_of(probe)->take(probe->set->gpu, piece[i].bytes);
        if (!*piece[i].at && piece[i].at != &probe->workspace)
            return false;
    }
    probe->workspace_bytes = probe->workspace ? probe->workspace_bytes : 0;
    probe->host_bytes = PROBE_PERIOD * row_bytes;
    if (probe->host_bytes < PROBE_ROWS * PROBE_SEEN * sizeof(float))
        probe->host_bytes = PROBE_ROWS * PROBE_SEEN * sizeof(float);
    if (probe->host_bytes < probe->most * segments_of(probe) * PROBE_ARRANGEMENTS * 4)
        probe->host_bytes = probe->most * segments_of(probe) * PROBE_ARRANGEMENTS * 4;
    probe->host = module_of(probe)->take_host(probe->set->gpu, probe->host_bytes);
    probe->rows = malloc(PROBE_ROWS * row_bytes);
    probe->weights = malloc(PROBE_WEIGHTS * row_bytes);
    return probe->host && probe->rows && probe->weights;
}

enum err probe_open(struct matmul_set *set, const struct matmul_shape *shape, struct probe *ret)
{
    size_up(set, shape, ret);
    if (!take_all(ret)) {
        probe_close(ret);
        return fail(ERR_MEMORY,
                    "the GPU has no %zu MiB free to try products of %u x %u; give other programs "
                    "less of it",
                    probe_bytes(set, shape) >> 20, shape->outputs, shape->inputs);
    }
    make_numbers(ret);
    put_weights(ret);
    for (unsigned i = 0; i < PROBE_ARRANGEMENTS; i++)
        put_rows(ret, (enum arrangement)i);
    return ERR_OK;
}

void probe_close(struct probe *probe)
{
    struct piece piece[PIECES];

    if (!probe->set)
        return;
    list_pieces(probe, piece);
    for (unsigned i = 0; i < PIECES; i++)
        if (*piece[i].at)
            module_of(probe)->give(probe->set->gpu, *piece[i].at);
    if (probe->host)
        module_of(probe)->give_host(probe->set->gpu, probe->host);
    free(probe->rows);
    free(probe->weights);
    memset(probe, 0, sizeof(*probe));
}

static int32_t run(struct probe *probe, const struct multiply *multiply,
                   const struct multiply_rows *rows, const struct blas_algo *algo,
                   enum arrangement kind)
{
    struct multiply_call call = {
        .weight = probe->weight,
        .in = probe->in[kind],
        .weight_scale = probe->weight_scale,
        .in_scale = probe->in_scale[kind],
        .out = probe->out,
        .workspace = probe->workspace,
        .workspace_bytes = probe->workspace_bytes,
    };

    return multiply_run(multiply, rows, algo, &call);
}

bool probe_fix(struct probe *probe, const struct multiply *multiply,
               const struct multiply_rows *rows, const struct blas_algo *algo)
{
    if (run(probe, multiply, rows, algo, PROBE_MIXED))
        return false;
    module_of(probe)->copy(probe->set->gpu, probe->want, probe->out,
                           PROBE_PERIOD * probe->out_row_bytes);
    return true;
}

bool probe_same(struct probe *probe, const struct multiply *multiply,
                const struct multiply_rows *rows, const struct blas_algo *algo,
                unsigned arrangements)
{
    const struct gpu_module *module = module_of(probe);
    const size_t answers = rows->rows * segments_of(probe);
    uint32_t differs = 0;

    for (unsigned i = 0; i < arrangements; i++) {
        struct same_args args = {
            .rows = rows->rows,
            .row_bytes = probe->out_row_bytes,
            .got = probe->out,
            .want = probe->want,
            .row = probe->row[i],
            .differs = probe->differs + i * answers,
        };

        /* What an algorithm leaves unwritten must not pass for what the one before it wrote. */
        module->zero(probe->set->gpu, probe->out, rows->rows * probe->out_row_bytes);
        if (run(probe, multiply, rows, algo, (enum arrangement)i))
            return false;
        module->kernels->same(probe->set->gpu, &args);
    }
    module->copy(probe->set->gpu, probe->host, probe->differs, arrangements * answers * 4);
    wait_for_card(probe);
    for (size_t i = 0; i < arrangements * answers; i++)
        differs |= ((const uint32_t *)probe->host)[i];
    return !differs && !module->fault(probe->set->gpu);
}

static uint32_t seen_columns(const struct probe *probe)
{
    return probe->shape.outputs < PROBE_SEEN ? probe->shape.outputs : PROBE_SEEN;
}

/* The first columns of each row wanted, in order of the rows. Returns the bytes of each. */
static size_t look(struct probe *probe)
{
    size_t bytes = seen_columns(probe) * number_bytes(probe->shape.out);

    for (uint32_t i = 0; i < PROBE_ROWS; i++)
        module_of(probe)->copy(probe->set->gpu, (char *)probe->host + i * bytes,
                               (char *)probe->want + probe->place[i] * probe->out_row_bytes, bytes);
    wait_for_card(probe);
    return bytes;
}

void probe_hash(struct probe *probe, uint8_t ret[SHA256_BYTES])
{
    size_t bytes = look(probe);

    sha256_of((struct slice){probe->host, PROBE_ROWS * bytes}, ret);
}

static double seen_value(const struct probe *probe, size_t i)
{
    if (probe->shape.out == NUMBER_F32)
        return (double)((const float *)probe->host)[i];
    if (probe->shape.out == NUMBER_INT32)
        return ((const int32_t *)probe->host)[i];
    return value_of(NUMBER_BF16, probe->host, i);
}

/* Of sums of magnitude 1: what the card's adding may lose; forgetting a part of K loses more. */
static double lost_at_most(const struct probe *probe)
{
    switch (probe->shape.weight) {
    case NUMBER_INT8:
        return 0;
    case NUMBER_FP8:
        return ldexp(1, -6); /* 14 bits are kept between promotions */
    default:
        return ldexp(1, -10);
    }
}

static bool right_at(const struct probe *probe, uint32_t row, uint32_t column, double got)
{
    const enum number type = probe->shape.weight;
    const size_t row_bytes = probe->shape.inputs * number_bytes(type);
    const char *a = (const char *)probe->rows + row * row_bytes;
    const char *b = (const char *)probe->weights + column % PROBE_WEIGHTS * row_bytes;
    double scale = 1, sum = 0, size = 0;

    if (type == NUMBER_FP8)
        scale = (double)probe->row_scale[row] * (double)probe->column_scale[column % PROBE_WEIGHTS];
    for (uint32_t k = 0; k < probe->shape.inputs; k++) {
        double term = value_of(type, a, k) * value_of(type, b, k);

        sum += term;
        size += fabs(term);
    }
    sum *= scale;
    return fabs(got - sum) <= size * scale * lost_at_most(probe) +
                                  (probe->shape.out == NUMBER_BF16 ? ldexp(fabs(sum), -8) : 0);
}

bool probe_right(struct probe *probe)
{
    const uint32_t columns =
        seen_columns(probe) < RIGHT_COLUMNS ? seen_columns(probe) : RIGHT_COLUMNS;

    look(probe);
    for (uint32_t row = 0; row < PROBE_ROWS; row++)
        for (uint32_t column = 0; column < columns; column++)
            if (!right_at(probe, row, column,
                          seen_value(probe, (size_t)row * seen_columns(probe) + column)))
                return false;
    return true;
}

/* Milliseconds of so many runs; 0: they could not be run. */
static float time_runs(struct probe *probe, const struct multiply *multiply,
                       const struct multiply_rows *rows, const struct blas_algo *algo,
                       unsigned runs)
{
    const struct gpu_module *module = module_of(probe);

    module->event_record(probe->set->gpu, probe->set->event_begin);
    for (unsigned i = 0; i < runs; i++)
        if (run(probe, multiply, rows, algo, PROBE_MIXED))
            return 0;
    module->event_record(probe->set->gpu, probe->set->event);
    module->event_wait(probe->set->gpu, probe->set->event, -1);
    if (module->fault(probe->set->gpu))
        return 0;
    return module->event_ms(probe->set->gpu, probe->set->event_begin, probe->set->event);
}

float probe_time(struct probe *probe, const struct multiply *multiply,
                 const struct multiply_rows *rows, const struct blas_algo *algo)
{
    float once;
    unsigned runs;

    if (run(probe, multiply, rows, algo, PROBE_MIXED)) /* warms up */
        return 0;
    once = time_runs(probe, multiply, rows, algo, 1);
    if (once <= 0)
        return 0;
    runs = once * RUNS_MAX < TIMED_MS ? RUNS_MAX : (unsigned)(TIMED_MS / once);
    runs = runs < RUNS_MIN ? RUNS_MIN : runs;
    return time_runs(probe, multiply, rows, algo, runs) / (float)runs;
}
