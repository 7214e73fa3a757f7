/* submit_webhook.c: --webhook: who hears of the job. It is no part of what the job is: its key leaves it out. */
#include "config/log.h"
#include "producer/submit_internal.h"
#include "producer/webhook_url.h"
#include "sql/webhook.h"

#include <stdio.h>
#include <string.h>

static enum err refuse_unknown(const char *text, bool is_url)
{
    if (is_url)
        return fail(
            ERR_NOT_FOUND,
            "no endpoint has the URL that --webhook names: add it first, with `mserve webhook "
            "add NAME URL --secret-file FILE`");
    return fail(ERR_NOT_FOUND,
                "there is no endpoint \"%.80s\": add it first, with `mserve webhook add NAME URL "
                "--secret-file FILE`",
                text);
}

enum err submit_find_webhook(struct submit *submit)
{
    const char *text = submit->options->webhook;
    struct webhook_endpoint endpoint;
    struct buffer url = {0};
    bool is_url;
    enum err rc = ERR_OK;

    if (text == NULL)
        return ERR_OK;
    is_url = strstr(text, "://") != NULL;
    if (is_url)
        rc = webhook_url_check(&submit->cli->settings->webhook, text, &url);
    if (rc == ERR_OK)
        rc = webhook_find(submit->cli->db, is_url ? NULL : text, url.data, &endpoint);
    if (rc == ERR_NOT_FOUND)
        rc = refuse_unknown(text, is_url);
    else if (rc == ERR_OK && !endpoint.enabled)
        rc = fail(ERR_USAGE, "the endpoint %s is disabled; `mserve webhook enable %s` first",
                  endpoint.name, endpoint.name);
    if (rc == ERR_OK)
        submit->webhook = endpoint.endpoint;
    buffer_release(&url);
    return rc;
}

enum err submit_set_webhook(struct submit *submit)
{
    char id[UUID_BATCH_SIZE], name[WEBHOOK_NAME_MAX + 1];
    bool set;
    enum err rc;

    if (submit->options->webhook == NULL)
        return ERR_OK;
    rc = webhook_of_job(submit->cli->db, &submit->job.job, &submit->webhook, &set, name);
    if (rc != ERR_OK || set)
        return rc;
    uuid_format_batch(submit->job.job, id);
    if (name[0] != '\0')
        fprintf(stderr, "%s: %s was accepted before, with --webhook %s, and keeps that\n",
                submit->cli->program, id, name);
    else
        fprintf(stderr, "%s: %s was accepted before, without a webhook, and gets none now\n",
                submit->cli->program, id);
    return ERR_OK;
}
