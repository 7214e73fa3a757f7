/* tiers.c: rows of table models, grouped by tier. */
#include "producer/tiers.h"
#include "config/log.h"
#include "sql/queries.h"

#include <string.h>

static char *copy(struct arena *arena, struct slice text)
{
    return arena_copy(arena, text.data, text.len);
}

static void take_row(struct tiers *tiers, const struct db_result *result, int row,
                     struct slice *names)
{
    struct slice name = db_get_slice(result, row, 0);
    struct slice tier = db_get_slice(result, row, 1);
    struct tier *last = tiers->count > 0 ? &tiers->tier[tiers->count - 1] : NULL;

    names[row] = (struct slice){copy(&tiers->arena, name), name.len};
    if (last == NULL || strcmp(last->name, tier.data) != 0) {
        last = &tiers->tier[tiers->count++];
        last->name = copy(&tiers->arena, tier);
        last->topic = copy(&tiers->arena, db_get_slice(result, row, 2));
        last->partitions = (uint32_t)db_get_i32(result, row, 3);
        last->models = (struct line_models){&names[row], 0, last->name};
    }
    last->models.count++;
}

enum err tiers_load(struct db *db, struct tiers *ret)
{
    struct tiers tiers = {0};
    struct db_result result = {0};
    struct slice *names;
    enum err rc = db_exec(db, QUERY_MODELS_LIST, DB_NO_PARAMS, &result);

    if (rc != ERR_OK)
        return rc;
    names = arena_zalloc(&tiers.arena, (size_t)result.rows + 1, sizeof(*names));
    tiers.tier = arena_zalloc(&tiers.arena, (size_t)result.rows + 1, sizeof(*tiers.tier));
    for (int row = 0; row < result.rows; row++)
        take_row(&tiers, &result, row, names);
    tiers.all = (struct line_models){names, (uint32_t)result.rows, ""};
    db_result_release(&result);
    if (tiers.count == 0) {
        tiers_release(&tiers);
        return fail(ERR_INPUT, "no tier is registered; an operator does that with: mserve topics");
    }
    *ret = tiers;
    return ERR_OK;
}

void tiers_release(struct tiers *tiers)
{
    arena_release(&tiers->arena);
    *tiers = (struct tiers){0};
}

enum err tiers_find(const struct tiers *tiers, const char *name, const struct tier **ret)
{
    struct buffer known = {0};
    enum err rc;

    for (uint32_t i = 0; i < tiers->count; i++) {
        if (strcmp(tiers->tier[i].name, name) == 0) {
            buffer_release(&known);
            *ret = &tiers->tier[i];
            return ERR_OK;
        }
        buffer_printf(&known, "%s%s", i > 0 ? ", " : "", tiers->tier[i].name);
    }
    rc = fail(ERR_INPUT, "there is no tier %s; there are: %s", name, known.data);
    buffer_release(&known);
    return rc;
}

static bool serves(const struct tier *tier, struct slice model)
{
    for (uint32_t i = 0; i < tier->models.count; i++)
        if (tier->models.name[i].len == model.len &&
            memcmp(tier->models.name[i].data, model.data, model.len) == 0)
            return true;
    return false;
}

enum err tiers_serving(const struct tiers *tiers, const char *model, const struct tier **ret)
{
    struct slice name = {model, strlen(model)};
    const struct tier *found = NULL;

    for (uint32_t i = 0; i < tiers->count; i++) {
        if (!serves(&tiers->tier[i], name))
            continue;
        if (found != NULL)
            return fail(ERR_INPUT,
                        "the model %s is served by the tiers %s and %s; choose with "
                        "--tier",
                        model, found->name, tiers->tier[i].name);
        found = &tiers->tier[i];
    }
    if (found == NULL)
        return ERR_NOT_FOUND;
    *ret = found;
    return ERR_OK;
}
