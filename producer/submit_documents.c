/* submit_documents.c: documents through the template into the spool, and what is said meanwhile. */
#include "producer/submit_documents.h"
#include "config/clock.h"
#include "config/json.h"
#include "config/log.h"
#include "config/utf8.h"
#include "producer/documents/document_since.h"
#include "producer/documents/document_split.h"
#include "producer/documents/document_template.h"
#include "producer/documents/documents.h"
#include "producer/message.h"
#include "producer/submit_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_MAX = 20, WHY_BYTES = 1024 };

static bool skips(const struct submit *submit)
{
    return strcmp(submit->options->on_invalid, "skip") == 0;
}

static enum err open_source(struct submit *submit)
{
    const struct submit_options *typed = submit->options;
    struct documents_options *options = arena_zalloc(&submit->arena, 1, sizeof(*options));

    *options = (struct documents_options){
        .from = typed->documents,
        .include = typed->include.item,
        .include_count = typed->include.count,
        .exclude = typed->exclude.item,
        .exclude_count = typed->exclude.count,
        .since_s = INT64_MIN,
        .encoding = typed->encoding,
        .bytes_max = submit->cli->settings->submit.document_bytes_max,
    };
    if (typed->since != NULL &&
        !document_since_parse(typed->since, (int64_t)(clock_wall_ms() / 1000), &options->since_s))
        return fail(
            ERR_USAGE,
            "--since is \"%s\" but must be a time like 2026-11-21 or 2026-11-21T03:00, or how "
            "long ago, like 24h",
            typed->since);
    return documents_open(options, &submit->documents->source);
}

enum err submit_documents_open(struct submit *submit)
{
    struct submit_documents *documents = xcalloc(1, sizeof(*documents));
    const struct submit_options *typed = submit->options;
    enum err rc = document_template_load(
        typed->template, submit->has_endpoint ? &submit->endpoint : NULL, &documents->template);

    submit->documents = documents;
    if (rc == ERR_OK)
        rc = open_source(submit);
    if (rc != ERR_OK)
        return rc;
    submit->has_endpoint = true;
    submit->endpoint = document_template_endpoint(documents->template);
    submit->input =
        input_new(documents_name(documents->source), submit->cli->settings->submit.spool_dir);
    return ERR_OK;
}

static void print_json(struct submit_documents *documents, const char *why)
{
    struct buffer json = {0};

    json_write_open(&json, '{');
    json_write_key(&json, "code");
    json_write_text(&json, "invalid_document");
    json_write_key(&json, "message");
    json_write_string_clean(&json, (struct slice){why, strlen(why)});
    json_write_key(&json, "param");
    json_write_null(&json);
    json_write_key(&json, "line");
    json_write_null(&json);
    json_write_close(&json, '}');
    fputs(documents->refused > 0 ? ",\n" : "{\"errors\":{\"object\":\"list\",\"data\":[\n", stdout);
    fwrite(json.data, 1, json.len, stdout);
    buffer_release(&json);
}

/* Tells of a document that cannot be taken; `why` is a sentence that begins with its path. */
static void refuse(struct submit *submit, const char *why)
{
    struct submit_documents *documents = submit->documents;
    struct buffer text = {0};

    progress_wipe(&submit->progress);
    if (submit->options->json && !skips(submit)) {
        print_json(documents, why);
    } else if (skips(submit) || documents->refused < SHOWN_MAX) {
        utf8_add_printable(&text, (struct slice){why, strlen(why)});
        fprintf(stderr, "%s%s\n", skips(submit) ? "left out: " : "", text.data);
    }
    documents->refused++;
    buffer_release(&text);
}

/* The next document that can be taken. What cannot is told here. */
static enum err find_next(struct submit *submit, struct document *ret, bool *ret_more)
{
    for (;;) {
        char why[WHY_BYTES] = "";
        enum err rc;

        log_catch(why, sizeof(why));
        rc = documents_next(submit->documents->source, ret, ret_more);
        log_catch(NULL, 0);
        if (rc == ERR_OK || rc == ERR_INTERRUPTED)
            return rc;
        if (rc != ERR_INPUT || documents_is_broken(submit->documents->source)) {
            progress_wipe(&submit->progress);
            return fail(rc, "%s", why);
        }
        refuse(submit, why);
    }
}

/* Where it is cut. An error was told. */
static enum err split(struct submit *submit, const struct document *document,
                      const struct document_cut **ret, uint32_t *ret_count)
{
    char why[WHY_BYTES] = "";
    struct buffer text = {0};
    enum err rc;

    log_catch(why, sizeof(why));
    rc = document_split(submit->documents->splitter, document->text, ret, ret_count);
    log_catch(NULL, 0);
    if (rc == ERR_OK)
        return ERR_OK;
    buffer_printf(&text, "%s: it cannot be split: %s", document->path, why);
    refuse(submit, text.data);
    buffer_release(&text);
    return rc;
}

/* The last part has the longest name. */
static bool id_fits(const char *path, uint32_t parts)
{
    const struct document_part last = {.path = path, .part = parts, .parts = parts};
    struct buffer id = {0};
    bool fits;

    document_template_id(&last, &id);
    fits = id.len <= MESSAGE_CUSTOM_ID_BYTES_MAX;
    buffer_release(&id);
    return fits;
}

/* Adds the lines of all parts to the buffer. False: told that they cannot be lines. */
static bool render(struct submit *submit, const struct document *document,
                   const struct document_cut *cuts, uint32_t count)
{
    struct submit_documents *documents = submit->documents;
    uint64_t line_bytes_max = submit->cli->settings->submit.line_bytes_max;
    char why[WHY_BYTES];

    buffer_clear(&documents->buffer);
    if (!id_fits(document->path, count)) {
        snprintf(why, sizeof(why),
                 "%s: the path is too long for the names of %" PRIu32
                 " parts, which may have %d bytes",
                 document->path, count, MESSAGE_CUSTOM_ID_BYTES_MAX);
        refuse(submit, why);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct document_part part = {
            document->path,
            {document->text.data + cuts[i].begin, cuts[i].end - cuts[i].begin},
            i + 1,
            count};
        size_t before = documents->buffer.len;

        document_template_line(documents->template, &part, &documents->buffer);
        if (documents->buffer.len - before - 1 > line_bytes_max) {
            snprintf(why, sizeof(why),
                     "%s: its request has %zu bytes; at most %" PRIu64
                     " are allowed (submit.line_bytes_max)",
                     document->path, documents->buffer.len - before - 1, line_bytes_max);
            refuse(submit, why);
            return false;
        }
    }
    return true;
}

static void note_document(struct submit_documents *documents, const struct document *document,
                          uint32_t parts)
{
    struct submit_document *item;

    if (documents->count == documents->cap) {
        documents->cap = documents->cap > 0 ? documents->cap * 2 : 1024;
        documents->item = xrealloc(documents->item, documents->cap, sizeof(*documents->item));
    }
    item = &documents->item[documents->count++];
    item->path = arena_copy(&documents->arena, document->path, strlen(document->path));
    memcpy(item->sha256, document->sha256, sizeof(item->sha256));
    item->first_line = documents->lines;
    item->parts = parts;
    documents->lines += parts;
}

static enum err take(struct submit *submit, const struct document *document)
{
    struct submit_documents *documents = submit->documents;
    const struct document_cut *cuts;
    uint32_t count;
    enum err rc;

    if (split(submit, document, &cuts, &count) != ERR_OK || !render(submit, document, cuts, count))
        return ERR_OK;
    if (documents->refused > 0 && !skips(submit))
        return ERR_OK; /* nothing will be sent: only who else is refused is of interest */
    rc = input_add(submit->input, documents->buffer.data, documents->buffer.len);
    if (rc == ERR_OK)
        note_document(documents, document, count);
    return rc;
}

/* After the last document: what it comes to. */
static enum err conclude(const struct submit *submit)
{
    const struct submit_documents *documents = submit->documents;
    const char *from = submit->options->documents;
    char refused[32];

    if (documents->refused == 0)
        return ERR_OK;
    progress_number(documents->refused, refused);
    if (skips(submit) && documents->count + submit->series.unchanged + submit->series.running > 0) {
        fprintf(stderr, "%s document%s left out\n", refused,
                documents->refused == 1 ? " was" : "s were");
        return ERR_OK;
    }
    if (skips(submit))
        return fail(ERR_INPUT, "%s: none of its documents can be taken; nothing was sent", from);
    if (!submit->options->json && documents->refused > SHOWN_MAX)
        fprintf(stderr, "... and %" PRIu64 " more; --json shows all of them\n",
                documents->refused - SHOWN_MAX);
    return fail(
        ERR_INPUT,
        "%s: %s document%s cannot be taken; nothing was sent. With --on-invalid skip the rest runs",
        from, refused, documents->refused == 1 ? "" : "s");
}

static void show(struct submit *submit, uint64_t number)
{
    char count[32], note[64];

    snprintf(note, sizeof(note), "%s documents", progress_number(number, count));
    progress_show(&submit->progress, "reading", number, 0, note, clock_mono_ns());
}

/* By the tier's own tokenizer, where its model lies on this machine too. */
static enum err open_splitter(struct submit *submit)
{
    const struct settings_tier *tier =
        settings_tier_find(submit->cli->settings, submit->tier->name);
    struct document_split_options options = {
        .tokens_max = submit->options->split_tokens,
        .overlap = submit->options->overlap,
        .model = tier != NULL ? tier->model : NULL,
    };

    return document_splitter_open(&options, &submit->documents->splitter);
}

enum err submit_documents_read(struct submit *submit)
{
    struct document document;
    uint64_t number = 0;
    bool more = true;
    enum err rc = open_splitter(submit);

    if (rc == ERR_OK)
        rc = submit_series_load(submit);
    while (rc == ERR_OK) {
        rc = find_next(submit, &document, &more);
        if (rc == ERR_OK && more && !submit_series_leaves_out(submit, &document))
            rc = take(submit, &document);
        if (rc != ERR_OK || !more)
            break;
        show(submit, ++number);
    }
    progress_wipe(&submit->progress);
    if (submit->options->json && submit->documents->refused > 0 && !skips(submit))
        fputs("]}}\n", stdout); /* the list that print_json() began */
    if (rc == ERR_OK)
        rc = conclude(submit);
    if (rc == ERR_OK)
        submit_series_say(submit);
    return rc;
}

enum err submit_documents_say_none(const struct submit *submit)
{
    uint64_t passed_over = documents_passed_over(submit->documents->source);
    struct buffer from = {0}, left_out = {0};

    submit_series_add_counts(submit, &left_out);
    utf8_add_printable(
        &from, (struct slice){submit->options->documents, strlen(submit->options->documents)});
    if (submit->options->json)
        printf("{\"object\":\"batch.none\",\"documents\":0,\"passed_over\":%" PRIu64
               ",\"unchanged\":%" PRIu64 ",\"running\":%" PRIu64 "}\n",
               passed_over, submit->series.unchanged, submit->series.running);
    else if (left_out.len > 0)
        printf("%s: nothing to do: %s; no job was made\n", from.data, left_out.data);
    else if (passed_over > 0)
        printf("%s: nothing to do: the options select none of its %" PRIu64
               " documents; no job was made\n",
               from.data, passed_over);
    else
        printf("%s: nothing to do: it has no documents; no job was made\n", from.data);
    buffer_release(&from);
    buffer_release(&left_out);
    return cli_flush();
}

const char *submit_documents_path(const struct submit_documents *documents, uint64_t request)
{
    uint64_t low = 0, high = documents->count;

    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;

        if (documents->item[middle].first_line <= request)
            low = middle;
        else
            high = middle;
    }
    return documents->item[low].path;
}

bool submit_documents_reads(const struct submit *submit, const struct stat *file)
{
    struct stat template;

    return documents_is(submit->documents->source, file) ||
           (stat(submit->options->template, &template) == 0 && template.st_dev == file->st_dev &&
            template.st_ino == file->st_ino);
}

void submit_documents_close(struct submit_documents *documents)
{
    if (documents == NULL)
        return;
    documents_close(documents->source);
    document_template_free(documents->template);
    document_splitter_close(documents->splitter);
    free(documents->item);
    arena_release(&documents->arena);
    buffer_release(&documents->buffer);
    free(documents);
}
