/*
 * bench_json.c: MB/s of json_parse() over lines of the batch format, of the UTF-8 check alone and of
 * json_write_string(), on one core, beside memcpy of the same bytes. The text is our own
 * documentation. Each figure is the best of twenty runs; the CPU is named, because a figure without
 * one says nothing.
 */
#include "config/clock.h"
#include "config/json.h"
#include "config/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 10000, RUNS = 20 };

static struct buffer prose, lines, copy;

static void read_prose(const char *path)
{
    FILE *in = fopen(path, "rb");

    if (in == NULL) {
        printf("%s cannot be read\n", path);
        exit(1);
    }
    prose.len = fread(buffer_reserve(&prose, 1 << 20), 1, 1 << 20, in);
    fclose(in);
}

static void print_cpu(void)
{
    FILE *in = fopen("/proc/cpuinfo", "r");
    char line[256];

    while (in != NULL && fgets(line, sizeof(line), in) != NULL)
        if (strncmp(line, "model name", 10) == 0) {
            printf("CPU: %s", strchr(line, ':') + 2);
            break;
        }
    if (in != NULL)
        fclose(in);
}

/* `len` bytes of prose, another place for each line, whole characters. */
static struct slice piece(unsigned line, size_t len)
{
    size_t start = (size_t)line * 977 % (prose.len - len);
    struct slice text = {prose.data + start, len};

    while (((unsigned char)text.data[0] & 0xc0) == 0x80) {
        text.data++;
        text.len--;
    }
    while (((unsigned char)text.data[text.len] & 0xc0) == 0x80)
        text.len--;
    return text;
}

static void add_completion(unsigned line)
{
    buffer_printf(&lines,
                  "{\"custom_id\":\"request-%u\",\"method\":\"POST\",\"url\":\"/v1/completions\","
                  "\"body\":{\"model\":\"mserve-demo-lang\",\"max_tokens\":16,\"prompt\":",
                  line);
    json_write_string(&lines, piece(line, 860));
    buffer_add_text(&lines, "}}\n");
}

static void add_chat(unsigned line)
{
    buffer_printf(&lines,
                  "{\"custom_id\":\"request-%u\",\"method\":\"POST\","
                  "\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"mserve-demo-lang\","
                  "\"messages\":[{\"role\":\"system\",\"content\":\"You are a careful clerk.\"},"
                  "{\"role\":\"user\",\"content\":",
                  line);
    json_write_string(&lines, piece(line, 400));
    buffer_add_text(&lines, "}],\"max_tokens\":100,\"temperature\":0.7,\"stop\":[\"\\n\\n\"]}}\n");
}

static void parse_lines(void)
{
    struct arena arena = {0};
    const char *at = lines.data;
    const char *end = at + lines.len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct slice line = {at, (size_t)(newline - at)};
        struct json *value;

        if (json_parse(&arena, line, NULL, &value, NULL) != ERR_OK)
            abort();
        arena_clear(&arena);
        at = newline + 1;
    }
    arena_release(&arena);
}

static void check_utf8(void)
{
    if (!utf8_valid(buffer_slice(&lines)))
        abort();
}

static void write_string(void)
{
    buffer_clear(&copy);
    json_write_string(&copy, buffer_slice(&lines));
}

static void copy_bytes(void)
{
    buffer_clear(&copy);
    buffer_add(&copy, lines.data, lines.len);
}

static void measure(const char *what, void (*work)(void))
{
    double best = 0;

    for (int run = 0; run < RUNS; run++) {
        uint64_t start = clock_mono_ns();
        double rate;

        work();
        rate = (double)lines.len * 1000 / (double)(clock_mono_ns() - start);
        best = rate > best ? rate : best;
    }
    printf("%-44s %6.0f MB/s\n", what, best);
}

int main(void)
{
    read_prose(MSERVE_SOURCE "/docs/formats.md");
    if (prose.len < 4096) {
        printf("the prose is too short\n");
        return 1;
    }
    print_cpu();
    for (unsigned line = 0; line < LINES; line++)
        add_completion(line);
    printf("completion lines of %zu bytes\n", lines.len / LINES);
    measure("  json_parse", parse_lines);
    buffer_clear(&lines);
    for (unsigned line = 0; line < LINES; line++)
        add_chat(line);
    printf("chat lines of %zu bytes\n", lines.len / LINES);
    measure("  json_parse", parse_lines);
    measure("  utf8_valid", check_utf8);
    measure("  json_write_string of them all", write_string);
    measure("  memcpy", copy_bytes);
    buffer_release(&prose);
    buffer_release(&lines);
    buffer_release(&copy);
    return 0;
}
