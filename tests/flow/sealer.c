/*
 * sealer.c: for tests that put many endpoints into the tables at once: reads ids, a line each, and
 * writes each with the secret sealed for it, as `copy` wants it; makes the key and the secret first.
 *
 *   sealer KEY-FILE SECRET-FILE <ids >rows
 */
#include "config/seal.h"
#include "config/uuid.h"
#include "config/webhook_secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum err make_secret(const char *path)
{
    struct buffer text = {0};
    enum err rc = webhook_secret_make(WEBHOOK_HMAC, &text);
    FILE *file = rc ? NULL : fopen(path, "w");

    if (!file || fwrite(text.data, 1, text.len, file) != text.len || fclose(file) != 0)
        rc = ERR_IO;
    buffer_wipe(&text);
    return rc;
}

static enum err read_secret(const char *path, char *out, size_t size, struct slice *ret)
{
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(out, 1, size, file) : 0;

    if (!file || fclose(file) != 0 || len == 0)
        return ERR_IO;
    *ret = (struct slice){out, len};
    return ERR_OK;
}

static enum err seal_all(const struct seal *seal, struct slice secret)
{
    struct buffer sealed = {0};
    char line[64];
    enum err rc = ERR_OK;

    while (!rc && fgets(line, sizeof(line), stdin)) {
        struct uuid id;

        line[strcspn(line, "\n")] = '\0';
        if (!uuid_parse((struct slice){line, strlen(line)}, &id))
            return ERR_INPUT;
        buffer_clear(&sealed);
        rc = seal_put(seal, (struct slice){(const char *)id.bytes, 16}, secret, &sealed);
        printf("%s\t\\\\x", line);
        for (size_t i = 0; i < sealed.len; i++)
            printf("%02x", (unsigned char)sealed.data[i]);
        printf("\n");
    }
    buffer_release(&sealed);
    return rc;
}

int main(int argc, char **argv)
{
    struct seal *seal = NULL;
    struct slice secret;
    char text[256];
    enum err rc = argc == 3 ? ERR_OK : ERR_USAGE;

    if (!rc && access(argv[1], F_OK) != 0)
        rc = seal_make_key(argv[1]);
    if (!rc && access(argv[2], F_OK) != 0)
        rc = make_secret(argv[2]);
    if (!rc)
        rc = seal_open(argv[1], &seal);
    if (!rc)
        rc = read_secret(argv[2], text, sizeof(text), &secret);
    if (!rc)
        rc = seal_all(seal, secret);
    seal_close(seal);
    return err_exit_status(rc);
}
