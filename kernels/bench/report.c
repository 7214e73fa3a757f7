/* report.c: rates out of samples, then two ways to write them down. */
#include "kernels/bench/report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "kernels/model/model.h"
#include "kernels/model/tensor.h"

/* Middle, least and most of the samples. */
struct spread {
    double median;
    double min;
    double max;
};

/* What a row comes to. */
struct figures {
    struct spread tokens_s; /* by the clock that counts */
    double device_tokens_s; /* median, by the device's */
    double step_ms;
    double part[BENCH_PARTS]; /* shares of the device's time; the rest is gaps */
    double gops;              /* all arithmetic over the time that counts, of the median sample */
    double linear_gops;       /* that of the linear layers over the time spent there; 0: none */
    double gb_s;
    double running;
    double others;
};

static const char *const part_names[BENCH_PARTS] = {"fixed", "linear", "attention", "head"};

static void add_tensor(const struct gguf_tensor *tensor, double *ops, double *bytes)
{
    *ops += 2.0 * (double)tensor->len;
    *bytes += (double)tensor->bytes;
}

struct workload workload_of(const struct model *model, bool kv_f32)
{
    const struct model_hyper *hyper = &model->hyper;
    const struct tensor_format *format = tensor_format(model->layer[0].ffn_up->type);
    struct workload work = {.type = format->name};

    for (uint32_t i = 0; i < gguf_tensors(model->gguf); i++)
        work.weights += gguf_tensor(model->gguf, i)->len;
    for (uint32_t i = 0; i < hyper->layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        const struct gguf_tensor *const matrices[] = {
            layer->attn_q,   layer->attn_k, layer->attn_v,  layer->attn_output,
            layer->ffn_gate, layer->ffn_up, layer->ffn_down};

        for (size_t k = 0; k < sizeof(matrices) / sizeof(matrices[0]); k++)
            add_tensor(matrices[k], &work.linear_ops, &work.linear_bytes);
    }
    add_tensor(model->output, &work.head_ops, &work.head_bytes);
    work.attention_ops = 4.0 * hyper->layers * hyper->heads * hyper->head_dim;
    work.attention_bytes =
        2.0 * hyper->layers * hyper->kv_heads * hyper->head_dim * (kv_f32 ? 4 : 2);
    return work;
}

static double seconds(const struct report *report, const struct sample *sample)
{
    return (double)(report->simulated ? sample->device_ns : sample->wall_ns) / 1e9;
}

/* What a phase is there for: tokens read, written, or both. */
static double tokens(const struct sample *sample, const char *name)
{
    if (strcmp(name, "prefill") == 0)
        return (double)sample->prompt;
    if (strcmp(name, "decode") == 0)
        return (double)sample->output;
    return (double)(sample->prompt + sample->output);
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static struct spread spread_of(double *value, uint32_t len)
{
    qsort(value, len, sizeof(*value), compare);
    return (struct spread){(value[(len - 1) / 2] + value[len / 2]) / 2.0, value[0], value[len - 1]};
}

static double ratio(double a, double b)
{
    return b > 0.0 ? a / b : 0.0;
}

/* Operations and bytes of one run. */
static double ops_of(const struct workload *work, const struct sample *sample)
{
    return work->linear_ops * (double)sample->rows + work->head_ops * (double)sample->wanted +
           work->attention_ops * (double)sample->kv;
}

static double bytes_of(const struct workload *work, const struct sample *sample)
{
    return (work->linear_bytes + work->head_bytes) * (double)sample->steps +
           work->attention_bytes * (double)sample->kv;
}

static struct figures figures_of(const struct report *report, const struct report_row *row)
{
    double rate[REPORT_REPEATS_MAX], device[REPORT_REPEATS_MAX], total_s = 0.0;
    struct sample all = {0};
    struct figures figures = {0};

    for (uint32_t i = 0; i < row->samples; i++) {
        const struct sample *sample = &row->sample[i];
        const double count = tokens(sample, row->name);

        rate[i] = ratio(count, seconds(report, sample));
        device[i] = ratio(count, (double)sample->device_ns / 1e9);
        total_s += seconds(report, sample);
        all.device_ns += sample->device_ns;
        all.steps += sample->steps;
        all.rows += sample->rows;
        all.kv += sample->kv;
        all.wanted += sample->wanted;
        for (int part = 0; part < BENCH_PARTS; part++)
            all.part_ns[part] += sample->part_ns[part];
        figures.running += sample->running / row->samples;
        figures.others += sample->others / row->samples;
    }
    figures.tokens_s = spread_of(rate, row->samples);
    figures.device_tokens_s = spread_of(device, row->samples).median;
    figures.step_ms = 1e3 * ratio(total_s, (double)all.steps);
    for (int part = 0; part < BENCH_PARTS; part++)
        figures.part[part] = ratio((double)all.part_ns[part], (double)all.device_ns);
    figures.gops = ratio(ops_of(&report->workload, &all), total_s) / 1e9;
    figures.gb_s = ratio(bytes_of(&report->workload, &all), total_s) / 1e9;
    figures.linear_gops =
        ratio(report->workload.linear_ops * (double)all.rows, (double)all.part_ns[BENCH_LINEAR]);
    return figures;
}

/* The arithmetic that the backend does on weights of this type, on the instruction set it says. */
static const struct ceiling *arithmetic_ceiling(const struct report *report)
{
    const char *numerics = report->model->numerics_text, *type = report->workload.type;
    const char *kind = strcmp(type, "Q8_0") == 0   ? "int8"
                       : strcmp(type, "BF16") == 0 ? "bf16"
                                                   : "f32";
    const char *isa = strstr(numerics, "avx512") ? NULL
                      : strstr(numerics, "avx2") ? "avx2"
                                                 : "sse2";
    const struct ceiling *found = NULL;

    if (type[0] == '\0')
        return NULL;
    if (strcmp(report->backend, "ref") != 0)
        found = ceilings_find(report->ceiling, report->ceilings, kind, isa);
    return found != NULL ? found : ceilings_find(report->ceiling, report->ceilings, "f32", isa);
}

static double share(double rate, const struct ceiling *ceiling)
{
    return ceiling != NULL ? ratio(rate, ceiling->rate) : 0.0;
}

static void print_head(const struct report *report, FILE *out)
{
    const struct engine_model *model = report->model;

    fprintf(out, "%s, family %u, model %u, %u cores: %s\n", report->machine.cpu,
            report->machine.family, report->machine.model, report->machine.cores,
            report->machine.instructions);
    fprintf(out, "%s, %s, %.1f million weights%s%s; %u threads, %u rows a step\n", model->name,
            model->numerics_text, (double)report->workload.weights / 1e6,
            report->workload.type[0] != '\0' ? " in " : "", report->workload.type, report->threads,
            report->rows_max);
    for (uint32_t i = 0; i < report->ceilings; i++) {
        const struct ceiling *ceiling = &report->ceiling[i];

        fprintf(out, "%s%s%s%s ",
                i == 0       ? "ceilings: "
                : i % 3 == 0 ? "\n          "
                             : "; ",
                ceiling->kind, ceiling->isa[0] != '\0' ? " " : "", ceiling->isa);
        if (ceiling->here)
            fprintf(out, "%.1f %s", ceiling->rate, ceiling->unit);
        else
            fputs("not on this machine", out);
    }
    if (report->ceilings > 0)
        fputc('\n', out);
}

static void print_row(const struct report *report, const struct report_row *row, FILE *out)
{
    const struct figures f = figures_of(report, row);
    const double arithmetic = share(f.gops, arithmetic_ceiling(report));
    const double read =
        share(f.gb_s, ceilings_find(report->ceiling, report->ceilings, "read", NULL));

    fprintf(out, "%-14s %5u %6u %4u %9.1f %9.1f %9.1f %9.2f", row->name, row->batch, row->prompt,
            row->output, f.tokens_s.median, f.tokens_s.min, f.tokens_s.max, f.step_ms);
    fprintf(out, "  %3.0f %3.0f %3.0f %3.0f", 100 * f.part[BENCH_LINEAR],
            100 * f.part[BENCH_ATTENTION], 100 * f.part[BENCH_HEAD], 100 * f.part[BENCH_FIXED]);
    if (report->workload.type[0] != '\0')
        fprintf(out, " %7.1f %3.0f%% %6.1f %3.0f%%", f.gops, 100 * arithmetic, f.gb_s, 100 * read);
    fprintf(out, " %5.1f %3.0f%%\n", f.running, 100 * f.others);
}

void report_print(const struct report *report, FILE *out)
{
    const bool known = report->workload.type[0] != '\0';

    print_head(report, out);
    fprintf(out, "\n%-14s %5s %6s %4s %9s %9s %9s %9s  %-15s%s %5s %4s\n", "", "", "", "",
            "tokens/s", "", "", "ms", "% of the step", known ? "    GOP/s   of   GB/s   of" : "",
            "at", "");
    fprintf(out, "%-14s %5s %6s %4s %9s %9s %9s %9s  %3s %3s %3s %3s%s %5s %4s\n", "", "batch",
            "prompt", "new", "median", "min", "max", "a step", "lin", "att", "hea", "fix",
            known ? "         ceiling      ceiling" : "", "once", "others");
    for (uint32_t i = 0; i < report->rows; i++)
        print_row(report, &report->row[i], out);
}

static void write_number(struct buffer *out, const char *name, double value)
{
    json_write_key(out, name);
    json_write_f64(out, value);
}

static void write_whole(struct buffer *out, const char *name, uint64_t value)
{
    json_write_key(out, name);
    json_write_u64(out, value);
}

static void write_text(struct buffer *out, const char *name, const char *text)
{
    json_write_key(out, name);
    if (text == NULL)
        json_write_null(out);
    else
        json_write_string_clean(out, (struct slice){text, strlen(text)});
}

static void write_machine(const struct report *report, struct buffer *out)
{
    json_write_key(out, "machine");
    json_write_open(out, '{');
    write_text(out, "cpu", report->machine.cpu);
    write_whole(out, "family", report->machine.family);
    write_whole(out, "model", report->machine.model);
    write_whole(out, "cores", report->machine.cores);
    write_text(out, "instructions", report->machine.instructions);
    json_write_close(out, '}');
}

static void write_model(const struct report *report, struct buffer *out)
{
    json_write_key(out, "model");
    json_write_open(out, '{');
    write_text(out, "file", report->file);
    write_text(out, "name", report->model->name);
    write_text(out, "type", report->workload.type);
    write_whole(out, "weights", report->workload.weights);
    write_text(out, "numerics", report->model->numerics_text);
    json_write_close(out, '}');
}

static void write_ceilings(const struct report *report, struct buffer *out)
{
    json_write_key(out, "ceilings");
    json_write_open(out, '[');
    for (uint32_t i = 0; i < report->ceilings; i++) {
        const struct ceiling *ceiling = &report->ceiling[i];

        json_write_next(out);
        json_write_open(out, '{');
        write_text(out, "kind", ceiling->kind);
        write_text(out, "isa", ceiling->isa);
        write_text(out, "unit", ceiling->unit);
        json_write_key(out, "rate");
        if (ceiling->here)
            json_write_f64(out, ceiling->rate);
        else
            json_write_null(out);
        json_write_close(out, '}');
    }
    json_write_close(out, ']');
}

static void write_spread(struct buffer *out, const struct figures *figures)
{
    json_write_key(out, "tokens_per_s");
    json_write_open(out, '{');
    write_number(out, "median", figures->tokens_s.median);
    write_number(out, "min", figures->tokens_s.min);
    write_number(out, "max", figures->tokens_s.max);
    json_write_close(out, '}');
}

static void write_samples(const struct report *report, const struct report_row *row,
                          struct buffer *out)
{
    json_write_key(out, "runs");
    json_write_open(out, '[');
    for (uint32_t i = 0; i < row->samples; i++) {
        const struct sample *sample = &row->sample[i];

        json_write_next(out);
        json_write_open(out, '{');
        write_number(out, "tokens_per_s",
                     ratio(tokens(sample, row->name), seconds(report, sample)));
        write_whole(out, "wall_ns", sample->wall_ns);
        write_whole(out, "cpu_ns", sample->cpu_ns);
        write_whole(out, "device_ns", sample->device_ns);
        for (int part = 0; part < BENCH_PARTS; part++) {
            char name[24];

            snprintf(name, sizeof(name), "%s_ns", part_names[part]);
            write_whole(out, name, sample->part_ns[part]);
        }
        write_whole(out, "steps", sample->steps);
        write_whole(out, "rows", sample->rows);
        write_whole(out, "kv_tokens", sample->kv);
        write_whole(out, "prompt_tokens", sample->prompt);
        write_whole(out, "output_tokens", sample->output);
        write_whole(out, "cached_tokens", sample->cached);
        write_number(out, "others", sample->others);
        json_write_close(out, '}');
    }
    json_write_close(out, ']');
}

static void write_row(const struct report *report, const struct report_row *row, struct buffer *out)
{
    const struct figures f = figures_of(report, row);
    const struct ceiling *arithmetic = arithmetic_ceiling(report);
    const struct ceiling *read = ceilings_find(report->ceiling, report->ceilings, "read", NULL);

    json_write_next(out);
    json_write_open(out, '{');
    write_text(out, "phase", row->name);
    write_whole(out, "batch", row->batch);
    write_whole(out, "prompt", row->prompt);
    write_whole(out, "new", row->output);
    write_whole(out, "requests", row->requests);
    write_spread(out, &f);
    write_number(out, "device_tokens_per_s", f.device_tokens_s);
    write_number(out, "step_ms", f.step_ms);
    json_write_key(out, "time_shares");
    json_write_open(out, '{');
    for (int part = 0; part < BENCH_PARTS; part++)
        write_number(out, part_names[part], f.part[part]);
    json_write_close(out, '}');
    if (report->workload.type[0] != '\0') {
        write_number(out, "gop_per_s", f.gops);
        write_number(out, "linear_gop_per_s", f.linear_gops);
        write_number(out, "gb_per_s", f.gb_s);
    }
    if (arithmetic != NULL && read != NULL) {
        write_text(out, "arithmetic_ceiling", arithmetic->kind);
        write_text(out, "arithmetic_isa", arithmetic->isa);
        write_number(out, "arithmetic_share", share(f.gops, arithmetic));
        write_number(out, "linear_arithmetic_share", share(f.linear_gops, arithmetic));
        write_number(out, "read_share", share(f.gb_s, read));
    }
    write_number(out, "running", f.running);
    write_number(out, "others", f.others);
    write_samples(report, row, out);
    json_write_close(out, '}');
}

void report_write_json(const struct report *report, struct buffer *out)
{
    json_write_open(out, '{');
    write_text(out, "program", "mserve-bench " MSERVE_VERSION);
    write_machine(report, out);
    write_model(report, out);
    write_text(out, "backend", report->backend);
    write_whole(out, "threads", report->threads);
    write_whole(out, "rows_max", report->rows_max);
    write_text(out, "clock", report->simulated ? "simulated" : "wall");
    write_ceilings(report, out);
    json_write_key(out, "rows");
    json_write_open(out, '[');
    for (uint32_t i = 0; i < report->rows; i++)
        write_row(report, &report->row[i], out);
    json_write_close(out, ']');
    json_write_close(out, '}');
}
