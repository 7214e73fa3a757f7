/* card.c: a module, what it lists, and a name held against the list. */
#include "kernels/cuda/card.h"

#include "config/buffer.h"
#include "config/log.h"
#include "kernels/cuda/library.h"
#include "kernels/cuda/module.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool card_usable(const char *name, const char **ret_why)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char why[LIBRARY_WHY_SIZE];
    static struct library products;
    static bool found;
    const struct gpu_module *module = module_open(name, ret_why);
    struct gpu_about about[GPUS_MAX];
    uint32_t driver;

    if (module == NULL || module->list(about, &driver, ret_why) == 0)
        return false;
    if (strcmp(name, "cuda") != 0) /* the emulation also shows what runs without the library */
        return true;
    pthread_mutex_lock(&lock);
    if (!found)
        found = library_open(&library_cublaslt, module, &products, why);
    pthread_mutex_unlock(&lock);
    *ret_why = why;
    return found;
}

static bool fits(const char *gpu, const struct gpu_about *about, uint32_t index)
{
    char *end;
    unsigned long number;

    if (gpu == NULL || gpu[0] == '\0')
        return index == 0;
    if (strncasecmp(about->uuid, gpu, strlen(gpu)) == 0 && strlen(gpu) > strlen("GPU-"))
        return true;
    number = strtoul(gpu, &end, 10);
    return *end == '\0' && number == index;
}

static enum err refuse(const char *gpu, const struct gpu_about *about, uint32_t len, bool several)
{
    struct buffer list = {0};
    enum err err;

    for (uint32_t i = 0; i < len; i++)
        buffer_printf(&list, "%s%u %s (%s)", i > 0 ? ", " : "", i, about[i].uuid, about[i].name);
    err = fail(ERR_SETTINGS, "%s \"%s\"; this machine has %s",
               several ? "more than one GPU is called" : "there is no GPU", gpu, list.data);
    buffer_release(&list);
    return err;
}

enum err card_find(const char *name, const char *gpu, struct card *ret)
{
    struct gpu_about about[GPUS_MAX];
    uint32_t len, fitting = 0, at = 0;
    const char *why = NULL;

    *ret = (struct card){.module = module_open(name, &why)};
    len = ret->module != NULL ? ret->module->list(about, &ret->driver, &why) : 0;
    if (len == 0)
        return fail(ERR_DEVICE, "there is no GPU: %s", why);
    for (uint32_t i = 0; i < len; i++)
        if (fits(gpu, &about[i], i)) {
            fitting++;
            at = i;
        }
    if (fitting != 1)
        return refuse(gpu, about, len, fitting > 1);
    ret->index = at;
    ret->about = about[at];
    return ERR_OK;
}
