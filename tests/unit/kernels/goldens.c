/* goldens.c: reads the reference results with config/json.h. */
#include "goldens.h"

#include "config/json.h"
#include "tests/unit/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct slice read_whole(struct arena *arena, const char *path)
{
    FILE *file = fopen(path, "rb");
    char *data;
    long len;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (len = ftell(file)) < 0) {
        perror(path);
        abort();
    }
    rewind(file);
    data = arena_alloc(arena, (size_t)len + 1);
    if (fread(data, 1, (size_t)len, file) != (size_t)len)
        abort();
    data[len] = '\0';
    fclose(file);
    return (struct slice){data, (size_t)len};
}

static const struct json *need(const struct json *object, const char *key)
{
    const struct json *value = json_get(object, key);

    if (value == NULL) {
        fprintf(stderr, "goldens: no %s\n", key);
        abort();
    }
    return value;
}

static void read_golden(const struct json *line, struct golden *golden)
{
    const struct json *item;

    golden->prompt = need(line, "prompt")->text;
    golden->text = need(line, "greedy_text")->text;
    json_each(item, need(line, "prompt_token_ids"))
    {
        if (golden->ids_len == GOLDEN_IDS_MAX)
            abort();
        golden->ids[golden->ids_len++] = (uint32_t)strtoul(item->text.data, NULL, 10);
    }
    json_each(item, need(line, "embedding"))
    {
        if (golden->embedding_len == GOLDEN_EMBEDDING_MAX)
            abort();
        golden->embedding[golden->embedding_len++] = strtof(item->text.data, NULL);
    }
}

struct goldens *goldens_open(void)
{
    const char *path = shared_path("models/derived/stories260K.f32.gguf");
    struct goldens *goldens;
    struct slice text;

    if (path == NULL)
        return NULL;
    goldens = xcalloc(1, sizeof(*goldens));
    snprintf(goldens->model, sizeof(goldens->model), "%s", path);
    path = shared_path("models/derived/stories260K.llamacpp-goldens.a.jsonl");
    if (path == NULL)
        abort();
    text = read_whole(&goldens->arena, path);
    while (text.len > 0) {
        size_t len = (size_t)((const char *)memchr(text.data, '\n', text.len) - text.data);
        struct json *line;

        if (json_parse(&goldens->arena, (struct slice){text.data, len}, NULL, &line, NULL) ||
            goldens->len == GOLDENS_MAX)
            abort();
        read_golden(line, &goldens->golden[goldens->len++]);
        text = (struct slice){text.data + len + 1, text.len - len - 1};
    }
    return goldens;
}

void goldens_close(struct goldens *goldens)
{
    arena_release(&goldens->arena);
    free(goldens);
}
