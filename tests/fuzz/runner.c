/*
 * runner.c: runs a fuzz target without a fuzzer: over the files of its corpus, then over a fixed
 * number of changed ones. The changes come from a fixed seed, so that every run is the same run; it
 * is a guard against falling back, and the fuzzer is what finds new things. It speaks TAP.
 *
 *   fuzz_x_plain ROUNDS FILE...
 *
 * What the target logs about bad input goes nowhere.
 */
#include "config/buffer.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES_MAX = 64, INPUT_BYTES_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buffer corpus[FILES_MAX];
static unsigned corpus_count;
static uint64_t state = 0x9e3779b97f4a7c15;

/* xorshift64*: 0 .. below - 1 */
static size_t random_below(size_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return below > 0 ? (size_t)((state * 0x2545f4914f6cdd1d) >> 33) % below : 0;
}

static void read_file(const char *path, struct buffer *text)
{
    FILE *in = fopen(path, "rb");

    if (in == NULL) {
        printf("not ok 1 - %s can be read\n", path);
        exit(1);
    }
    text->len = fread(buffer_reserve(text, INPUT_BYTES_MAX), 1, INPUT_BYTES_MAX, in);
    fclose(in);
}

/* The target gets memory of exactly that size, so that a sanitizer sees a byte too far. */
static void run_target(const char *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, data, len);
    LLVMFuzzerTestOneInput(copy, len);
    free(copy);
}

/* Replaces `gone` bytes at `at` by `with`. */
static void exchange(struct buffer *text, size_t at, size_t gone, struct slice with)
{
    struct buffer out = {0};

    buffer_add(&out, text->data, at);
    buffer_add(&out, with.data, with.len);
    buffer_add(&out, text->data + at + gone, text->len - at - gone);
    buffer_release(text);
    *text = out;
}

static struct slice piece_of(const struct buffer *text)
{
    size_t at = random_below(text->len + 1);
    size_t len = random_below(text->len - at + 1);

    return (struct slice){text->data + at, len < 200 ? len : 200};
}

static void change(struct buffer *text)
{
    static const char telling[] = "{}[]:,\"\\'#&*!|-u0\n\t \x80\xff\xed\xf4";
    size_t at = random_below(text->len + 1);
    size_t left = text->len - at;
    char byte = telling[random_below(sizeof(telling))]; /* its NUL too */

    switch (random_below(6)) {
    case 0:
        exchange(text, at, left > 0, (struct slice){&byte, 1});
        break;
    case 1:
        byte = (char)random_below(256);
        exchange(text, at, left > 0, (struct slice){&byte, 1});
        break;
    case 2:
        exchange(text, at, 0, (struct slice){&byte, 1});
        break;
    case 3:
        exchange(text, at, random_below(left < 16 ? left + 1 : 16), (struct slice){"", 0});
        break;
    case 4:
        exchange(text, at, 0, piece_of(&corpus[random_below(corpus_count)]));
        break;
    default:
        if (random_below(8) == 0)
            text->len = at;
    }
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

    printf("1..1\n");
    fflush(stdout); /* a target that aborts leaves the plan unmet */
    if (nowhere >= 0)
        dup2(nowhere, STDERR_FILENO);
    for (int i = 2; i < argc && corpus_count < FILES_MAX; i++)
        read_file(argv[i], &corpus[corpus_count++]);
    if (corpus_count == 0) {
        printf("not ok 1 - there is a corpus\n");
        return 1;
    }
    run_target(NULL, 0);
    for (unsigned i = 0; i < corpus_count; i++)
        run_target(corpus[i].data, corpus[i].len);
    for (long round = 0; round < rounds; round++) {
        const struct buffer *from = &corpus[random_below(corpus_count)];
        struct buffer text = {0};

        buffer_add(&text, from->data, from->len);
        for (size_t changes = 1 + random_below(6); changes > 0; changes--)
            change(&text);
        run_target(text.data, text.len);
        buffer_release(&text);
    }
    for (unsigned i = 0; i < corpus_count; i++)
        buffer_release(&corpus[i]);
    printf("ok 1 - the target holds over %u files and %ld changed ones\n", corpus_count, rounds);
    return 0;
}
