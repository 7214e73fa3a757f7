/*
 * scan.c: blocks in a ring. The caller's thread fills them and takes them in, in the order of the
 * file; helpers judge them in between, and so does the caller when there is nothing else to do.
 */
#include "producer/scan.h"
#include "config/log.h"
#include "config/uuid.h"
#include "producer/block.h"
#include "producer/interrupt.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS_MAX = 16 };

enum place_state { PLACE_FREE, PLACE_FILLED, PLACE_TAKEN, PLACE_JUDGED };

struct place {
    struct block block;
    enum place_state state; /* guarded by the scanner's lock */
};

struct scanner {
    struct input *input;
    const struct scan_options *options;
    struct block_rules rules;
    struct sha256 sha;
    struct custom_ids *ids;
    struct scan *scan;
    bool models_differ;
    uint64_t at; /* where the next block begins */

    struct place *ring; /* [places]; next_in and next_out count up and never wrap */
    uint32_t places;
    uint64_t next_in, next_out;

    pthread_mutex_t lock;
    pthread_cond_t filled; /* there is something to judge, or nothing more will come */
    pthread_cond_t judged;
    bool stopping;
    pthread_t helper[THREADS_MAX];
    uint32_t helpers;
};

/* A filled place, the oldest first, now taken; NULL: none. The lock is held. */
static struct place *take(struct scanner *scanner)
{
    for (uint64_t i = scanner->next_out; i < scanner->next_in; i++) {
        struct place *place = &scanner->ring[i % scanner->places];

        if (place->state == PLACE_FILLED) {
            place->state = PLACE_TAKEN;
            return place;
        }
    }
    return NULL;
}

/* Judges a taken place. The lock is held before and after, but not meanwhile. */
static void judge(struct scanner *scanner, struct place *place)
{
    pthread_mutex_unlock(&scanner->lock);
    block_judge(&place->block, &scanner->rules);
    pthread_mutex_lock(&scanner->lock);
    place->state = PLACE_JUDGED;
    pthread_cond_signal(&scanner->judged);
}

static void *help_cb(void *data)
{
    struct scanner *scanner = data;

    pthread_mutex_lock(&scanner->lock);
    while (!scanner->stopping) {
        struct place *place = take(scanner);

        if (place != NULL)
            judge(scanner, place);
        else
            pthread_cond_wait(&scanner->filled, &scanner->lock);
    }
    pthread_mutex_unlock(&scanner->lock);
    return NULL;
}

static uint32_t threads_of(const struct scan_options *options)
{
    cpu_set_t cpus;
    int count = 1;

    if (options->threads > 0)
        return options->threads < THREADS_MAX ? options->threads : THREADS_MAX;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
        count = CPU_COUNT(&cpus);
    return count < THREADS_MAX ? (uint32_t)count : THREADS_MAX;
}

static void start(struct scanner *scanner)
{
    uint32_t threads = threads_of(scanner->options);

    scanner->places = 2 * threads;
    scanner->ring = xcalloc(scanner->places, sizeof(*scanner->ring));
    pthread_mutex_init(&scanner->lock, NULL);
    pthread_cond_init(&scanner->filled, NULL);
    pthread_cond_init(&scanner->judged, NULL);
    while (scanner->helpers + 1 < threads) {
        /* One thread fewer is slower, and nothing else. */
        if (pthread_create(&scanner->helper[scanner->helpers], NULL, help_cb, scanner) != 0)
            break;
        scanner->helpers++;
    }
}

static void stop(struct scanner *scanner)
{
    pthread_mutex_lock(&scanner->lock);
    scanner->stopping = true;
    pthread_cond_broadcast(&scanner->filled);
    pthread_mutex_unlock(&scanner->lock);
    for (uint32_t i = 0; i < scanner->helpers; i++)
        pthread_join(scanner->helper[i], NULL);
    for (uint32_t i = 0; i < scanner->places; i++)
        block_release(&scanner->ring[i].block);
    free(scanner->ring);
    pthread_cond_destroy(&scanner->judged);
    pthread_cond_destroy(&scanner->filled);
    pthread_mutex_destroy(&scanner->lock);
}

static void take_in_model(struct scanner *scanner, const struct block *block)
{
    struct scan *scan = scanner->scan;

    if (block->models_differ)
        scanner->models_differ = true;
    if (block->model.len == 0 || scanner->models_differ)
        return;
    if (scan->model == NULL)
        scan->model = xstrdup(block->model.data);
    else if (strcmp(scan->model, block->model.data) != 0)
        scanner->models_differ = true;
}

static enum err take_in_line(struct scanner *scanner, const struct block *block,
                             struct block_line *line)
{
    struct scan *scan = scanner->scan;
    uint64_t blanks = scan->blanks + line->entry.blanks;
    enum err rc;

    if (blanks > UINT32_MAX || scan->requests > INT64_MAX / 64)
        return fail(ERR_LIMIT, "the file has more than %u blank lines", UINT32_MAX);
    line->entry.blanks = (uint32_t)blanks;
    rc = line->error > 0
             ? line_index_add_invalid(scan->index, &line->entry, &block->error[line->error - 1])
             : line_index_add(scan->index, &line->entry, 1);
    if (rc == ERR_OK && line->entry.id_len > 0)
        rc = custom_ids_add(scanner->ids, line->hash, scan->requests);
    scan->work += line->entry.work;
    scan->requests++;
    return rc;
}

/* Puts a judged block behind those before it, and frees its place. */
static enum err take_in(struct scanner *scanner, struct place *place)
{
    struct block *block = &place->block;
    struct scan *scan = scanner->scan;
    enum err rc = ERR_OK;

    for (uint32_t i = 0; i < block->lines && rc == ERR_OK; i++)
        rc = take_in_line(scanner, block, &block->line[i]);
    scan->blanks += block->blanks;
    take_in_model(scanner, block);
    if (scanner->options->on_progress_cb != NULL)
        scanner->options->on_progress_cb(scanner->options->data, block->end, scan->requests);
    block_clear(block);
    pthread_mutex_lock(&scanner->lock);
    place->state = PLACE_FREE;
    scanner->next_out++;
    pthread_mutex_unlock(&scanner->lock);
    return interrupted() ? ERR_INTERRUPTED : rc;
}

/* Fills the next place, which is free. */
static enum err fill(struct scanner *scanner)
{
    struct place *place = &scanner->ring[scanner->next_in % scanner->places];
    enum err rc;

    place->block.at = scanner->at;
    rc = block_fill(&place->block, scanner->input, scanner->options->line_bytes_max, &scanner->sha);
    if (rc != ERR_OK)
        return rc;
    scanner->at = place->block.end;
    pthread_mutex_lock(&scanner->lock);
    place->state = PLACE_FILLED;
    scanner->next_in++;
    pthread_cond_signal(&scanner->filled);
    pthread_mutex_unlock(&scanner->lock);
    return ERR_OK;
}

/* Waits until the oldest block is judged, judging one itself meanwhile. */
static struct place *wait_for_oldest(struct scanner *scanner)
{
    struct place *oldest = &scanner->ring[scanner->next_out % scanner->places];

    pthread_mutex_lock(&scanner->lock);
    while (oldest->state != PLACE_JUDGED) {
        struct place *place = take(scanner);

        if (place != NULL)
            judge(scanner, place);
        else
            pthread_cond_wait(&scanner->judged, &scanner->lock);
    }
    pthread_mutex_unlock(&scanner->lock);
    return oldest;
}

static enum err read_all(struct scanner *scanner)
{
    uint64_t size = input_size(scanner->input);
    enum err rc = ERR_OK;

    while (rc == ERR_OK && (scanner->at < size || scanner->next_out < scanner->next_in)) {
        if (scanner->at < size && scanner->next_in - scanner->next_out < scanner->places)
            rc = fill(scanner);
        else
            rc = take_in(scanner, wait_for_oldest(scanner));
    }
    return rc;
}

static enum err on_duplicate_cb(void *data, uint64_t request, uint64_t first)
{
    struct scanner *scanner = data;

    return line_index_set_duplicate(scanner->scan->index, request, first);
}

enum err scan_run(struct input *input, const struct scan_options *options, struct scan *ret)
{
    struct scan scan = {0};
    struct scanner scanner = {
        .input = input,
        .options = options,
        .rules = {.line = &options->rules, .line_bytes_max = options->line_bytes_max},
        .scan = &scan,
    };
    enum err rc;

    random_fill(&scanner.rules.key, sizeof(scanner.rules.key));
    scan.index = line_index_new(options->spool_dir);
    scanner.ids = custom_ids_new(options->spool_dir);
    sha256_init(&scanner.sha);
    start(&scanner);
    rc = read_all(&scanner);
    stop(&scanner);
    if (rc == ERR_OK)
        rc = custom_ids_duplicates(scanner.ids, on_duplicate_cb, &scanner);
    if (rc == ERR_OK)
        rc = input_check_unchanged(input);
    sha256_end(&scanner.sha, scan.sha256);
    sha256_release(&scanner.sha);
    custom_ids_free(scanner.ids);
    if (scanner.models_differ) {
        free(scan.model);
        scan.model = NULL;
    }
    if (rc != ERR_OK) {
        scan_release(&scan);
        return rc;
    }
    *ret = scan;
    return ERR_OK;
}

void scan_release(struct scan *scan)
{
    line_index_free(scan->index);
    free(scan->model);
    *scan = (struct scan){0};
}
