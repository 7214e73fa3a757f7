/* metrics.c: the cells, the page in the OpenMetrics 1.0 text format, and the reference. */
#include "config/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "config/clock.h"
#include "config/utf8.h"

enum { PER_UNIT = 1000000000 };

enum label {
    LABEL_NONE,
#define X(id, key) LABEL_##id,
    METRIC_LABELS(X)
#undef X
};

static const struct {
    const char *key;
    const char *const *values;
    unsigned count;
} labels[] = {[LABEL_NONE] = {NULL, (const char *const[]){""}, 1},
#define V(id, name) name,
#define X(id, key_) [LABEL_##id] = {key_, (const char *const[]){id##_VALUES(V)}, id##_COUNT},
              METRIC_LABELS(X)
#undef X
#undef V
};

#define X(id) static const uint64_t bounds_##id[] = {BOUNDS_##id};
METRIC_BOUNDS(X)
#undef X
static const uint64_t bounds_NONE[1];

enum { BOUNDS_NONE_LEN = 0 };
#define X(id) enum { BOUNDS_##id##_LEN = sizeof(bounds_##id) / sizeof(uint64_t) };
METRIC_BOUNDS(X)
#undef X

static const struct row {
    enum metric_type type;
    const char *family;
    const char *unit;
    unsigned programs;
    enum label label;
    const uint64_t *bounds;
    unsigned bounds_len;
    const char *sentence;
} rows[METRIC_COUNT] = {
#define X(id, type, family, unit, programs, label, bounds, sentence)                               \
    {METRIC_##type,         family,  unit, METRICS_##programs, LABEL_##label, bounds_##bounds,     \
     BOUNDS_##bounds##_LEN, sentence},
    METRICS(X)
#undef X
};

_Alignas(64) atomic_uint_fast64_t metrics_cells[METRIC_COUNT][METRIC_CELLS];
static char *_Atomic infos[METRIC_COUNT]; /* the labels as they are written: key="value",… */
static unsigned shown;                    /* programs whose rows are on the page */

/* ------------------------------------------------------------------------------------ counting ---- */

/* Cells of a histogram: its buckets, each without those below it, then what is beyond, then the sum. */
void metrics_observe(enum metric metric, uint64_t amount)
{
    const struct row *row = &rows[metric];
    unsigned bucket = 0;

    assert(row->type == METRIC_HISTOGRAM);
    while (bucket < row->bounds_len && amount > row->bounds[bucket])
        bucket++;
    metrics_add(metric, bucket, 1);
    metrics_add(metric, row->bounds_len + 1, amount);
}

/* A value of a label: backslash, quote and newline are escaped, and what is no UTF-8 is replaced. */
static void add_escaped(struct buffer *out, const char *text)
{
    struct buffer clean = {0};

    utf8_add_clean(&clean, (struct slice){text, strlen(text)});
    for (size_t i = 0; i < clean.len; i++) {
        if (clean.data[i] == '\n') {
            buffer_add_text(out, "\\n");
            continue;
        }
        if (clean.data[i] == '\\' || clean.data[i] == '"')
            buffer_add_byte(out, '\\');
        buffer_add_byte(out, clean.data[i]);
    }
    buffer_release(&clean);
}

void metrics_info(enum metric metric, const struct metrics_pair *pairs, size_t count)
{
    struct buffer text = {0};
    char *before = NULL;

    assert(rows[metric].type == METRIC_INFO);
    for (size_t i = 0; i < count; i++) {
        buffer_printf(&text, "%s%s=\"", i > 0 ? "," : "", pairs[i].key);
        add_escaped(&text, pairs[i].value);
        buffer_add_byte(&text, '"');
    }
    if (!atomic_compare_exchange_strong(&infos[metric], &before, text.data))
        buffer_release(&text); /* it was said; a reader may have it in hand */
}

void metrics_init(unsigned programs, const char *name, uint64_t now_ms)
{
    const struct metrics_pair build[] = {{"version", MSERVE_VERSION}, {"program", name}};

    shown = programs;
    metrics_info(METRIC_BUILD, build, sizeof(build) / sizeof(build[0]));
    metrics_set(METRIC_PROCESS_START, 0, (int64_t)(now_ms * CLOCK_NS_PER_MS));
}

void metrics_reset(void)
{
    for (unsigned metric = 0; metric < METRIC_COUNT; metric++) {
        for (unsigned i = 0; i < METRIC_CELLS; i++)
            atomic_store(&metrics_cells[metric][i], 0);
        free(atomic_exchange(&infos[metric], NULL));
    }
}

/* ----------------------------------------------------------------------------------- the process ---- */

static int64_t count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int64_t count = -3; /* `.`, `..`, and the folder itself */

    if (folder == NULL)
        return 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

void metrics_sample_process(void)
{
    FILE *statm = fopen("/proc/self/statm", "re");
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    int64_t virtual_pages = 0, resident_pages = 0;
    struct rlimit fds;
    struct timespec cpu;

    if (statm != NULL) {
        if (fscanf(statm, "%" SCNd64 " %" SCNd64, &virtual_pages, &resident_pages) != 2)
            virtual_pages = resident_pages = 0;
        fclose(statm);
    }
    metrics_set(METRIC_PROCESS_VIRTUAL, 0, virtual_pages * page_bytes);
    metrics_set(METRIC_PROCESS_RESIDENT, 0, resident_pages * page_bytes);
    metrics_set(METRIC_PROCESS_FDS, 0, count_fds());
    if (getrlimit(RLIMIT_NOFILE, &fds) == 0)
        metrics_set(METRIC_PROCESS_FDS_MAX, 0, (int64_t)fds.rlim_cur);
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        metrics_set(METRIC_PROCESS_CPU, 0,
                    (int64_t)cpu.tv_sec * (int64_t)CLOCK_NS_PER_S + cpu.tv_nsec);
}

/* -------------------------------------------------------------------------------------- the page ---- */

static uint64_t read_cell(enum metric metric, unsigned cell)
{
    return atomic_load_explicit(&metrics_cells[metric][cell], memory_order_relaxed);
}

static bool is_scaled(const struct row *row)
{
    return strcmp(row->unit, "seconds") == 0 || strcmp(row->unit, "ratio") == 0;
}

/* 1500000000 of a row that is kept in billionths is `1.5`: exact, where a double would not be. */
static void add_number(struct buffer *out, const struct row *row, int64_t value)
{
    uint64_t size = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char digits[32];
    size_t len;

    if (!is_scaled(row)) {
        buffer_add_i64(out, value);
        return;
    }
    snprintf(digits, sizeof(digits), "%s%" PRIu64 ".%09" PRIu64, value < 0 ? "-" : "",
             size / PER_UNIT, size % PER_UNIT);
    len = strlen(digits);
    while (digits[len - 1] == '0' && digits[len - 2] != '.')
        len--;
    buffer_add(out, digits, len);
}

static const char *type_name(enum metric_type type)
{
    static const char *const names[] = {"counter", "gauge", "histogram", "info"};

    return names[type];
}

static void add_head(struct buffer *out, const struct row *row)
{
    buffer_printf(out, "# TYPE %s %s\n", row->family, type_name(row->type));
    if (row->unit[0] != '\0')
        buffer_printf(out, "# UNIT %s %s\n", row->family, row->unit);
    buffer_printf(out, "# HELP %s ", row->family);
    add_escaped(out, row->sentence);
    buffer_add_byte(out, '\n');
}

static void add_samples(struct buffer *out, enum metric metric, const struct row *row)
{
    for (unsigned i = 0; i < labels[row->label].count; i++) {
        buffer_printf(out, "%s%s", row->family, row->type == METRIC_COUNTER ? "_total" : "");
        if (row->label != LABEL_NONE)
            buffer_printf(out, "{%s=\"%s\"}", labels[row->label].key, labels[row->label].values[i]);
        buffer_add_byte(out, ' ');
        add_number(out, row, (int64_t)read_cell(metric, i));
        buffer_add_byte(out, '\n');
    }
}

/* The count is what the buckets hold, and not a number of its own: the two never disagree. */
static void add_histogram(struct buffer *out, enum metric metric, const struct row *row)
{
    static const struct row plain = {.unit = ""};
    uint64_t count = 0;

    for (unsigned i = 0; i < row->bounds_len; i++) {
        count += read_cell(metric, i);
        buffer_printf(out, "%s_bucket{le=\"", row->family);
        add_number(out, row, (int64_t)row->bounds[i]);
        if (!is_scaled(row))
            buffer_add_text(out, ".0"); /* bounds are floats in this format, `1.0` and not `1` */
        buffer_add_text(out, "\"} ");
        add_number(out, &plain, (int64_t)count);
        buffer_add_byte(out, '\n');
    }
    count += read_cell(metric, row->bounds_len);
    buffer_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_count %" PRIu64 "\n%s_sum ",
                  row->family, count, row->family, count, row->family);
    add_number(out, row, (int64_t)read_cell(metric, row->bounds_len + 1));
    buffer_add_byte(out, '\n');
}

static void add_row(struct buffer *out, enum metric metric)
{
    const struct row *row = &rows[metric];
    const char *info = atomic_load(&infos[metric]);

    if (row->type == METRIC_INFO && info == NULL)
        return;
    add_head(out, row);
    if (row->type == METRIC_INFO)
        buffer_printf(out, "%s_info{%s} 1\n", row->family, info);
    else if (row->type == METRIC_HISTOGRAM)
        add_histogram(out, metric, row);
    else
        add_samples(out, metric, row);
}

void metrics_render(struct buffer *out)
{
    for (unsigned metric = 0; metric < METRIC_COUNT; metric++)
        if (rows[metric].programs & shown)
            add_row(out, (enum metric)metric);
    buffer_add_text(out, "# EOF\n");
}

/* --------------------------------------------------------------------------------- the reference ---- */

static void print_label(const struct row *row, FILE *out)
{
    if (row->label == LABEL_NONE)
        return;
    fprintf(out, " `%s` is ", labels[row->label].key);
    for (unsigned i = 0; i < labels[row->label].count; i++)
        fprintf(out, "%s`%s`",
                i == 0                              ? ""
                : i + 1 == labels[row->label].count ? " or "
                                                    : ", ",
                labels[row->label].values[i]);
    fputc('.', out);
}

static void print_rows(unsigned programs, const char *heading, FILE *out)
{
    static const char *const suffix[] = {"_total", "", "", "_info"};

    fprintf(out, "\n## %s\n\n| metric | type | unit | what it says |\n|---|---|---|---|\n",
            heading);
    for (unsigned metric = 0; metric < METRIC_COUNT; metric++) {
        const struct row *row = &rows[metric];

        if (row->programs != programs)
            continue;
        fprintf(out, "| `%s%s` | %s | %s | %s", row->family, suffix[row->type],
                type_name(row->type), row->unit, row->sentence);
        print_label(row, out);
        fputs(" |\n", out);
    }
}

void metrics_print_reference(FILE *out)
{
    fputs(
        "# Metrics\n\n"
        "What `mserve-worker` and `mserve-scheduler` show at `/metrics`, in the OpenMetrics 1.0\n"
        "text format; where they listen is a setting (`worker.http`, `scheduler.http`). This page\n"
        "is written by `config/metrics_reference_main.c` from `config/metrics_table.h`, and a "
        "unit\n"
        "test holds the two together. Counters begin at 0 with the process. Whose requests they\n"
        "were is not in the labels, which are bounded: ask the tables.\n",
        out);
    print_rows(METRICS_ALL, "Every daemon", out);
    print_rows(METRICS_WORKER, "mserve-worker", out);
    print_rows(METRICS_SCHEDULER, "mserve-scheduler", out);
}
