/* module.c: dlopen, and whether what came has our face. */
#include "kernels/cuda/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef MSERVE_MODULE_DIR
#define MSERVE_MODULE_DIR "/usr/local/lib/mserve"
#endif

/* What was found out about a name. */
struct known {
    const char *name;
    const struct gpu_module *module;
    char why[MODULE_WHY_SIZE];
    bool looked;
};

static struct known knowns[] = {{.name = "cuda"}, {.name = "cuda-emu"}};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

const struct gpu_module *module_load(const char *path, char *why)
{
    const struct gpu_module *(*face)(void);
    const struct gpu_module *module;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (handle == NULL) {
        snprintf(why, MODULE_WHY_SIZE, "%s", dlerror());
        return NULL;
    }
    *(void **)&face = dlsym(handle, GPU_MODULE_SYMBOL);
    if (face == NULL) {
        snprintf(why, MODULE_WHY_SIZE, "%s is no module of mserve", path);
        dlclose(handle);
        return NULL;
    }
    module = face();
    if (module->face != GPU_FACE) {
        snprintf(why, MODULE_WHY_SIZE,
                 "%s has face %u, this program wants %d: it is of another "
                 "version",
                 path, module->face, GPU_FACE);
        dlclose(handle);
        return NULL;
    }
    return module;
}

/* True when the search is over: it was found, or a file of that name is there and does not work. */
static bool try_path(struct known *known, const char *path)
{
    if (access(path, F_OK) != 0)
        return false;
    known->module = module_load(path, known->why);
    return true;
}

/* The file that the environment names serves the name that it has. */
static bool try_named(struct known *known)
{
    const char *path = getenv("MSERVE_GPU_MODULE");

    if (path == NULL || path[0] == '\0')
        return false;
    known->module = module_load(path, known->why);
    if (known->module == NULL || strcmp(known->module->name, known->name) == 0)
        return true;
    known->module = NULL;
    return false;
}

/* Beside the program, and up from there as builds lie. */
static bool try_program(struct known *known, const char *file)
{
    char folder[PATH_MAX], path[PATH_MAX + 128];
    ssize_t len = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    char *slash;

    if (len <= 0)
        return false;
    folder[len] = '\0';
    for (bool beside = true; (slash = strrchr(folder, '/')) != NULL; beside = false) {
        *slash = '\0';
        snprintf(path, sizeof(path), "%s/%s", folder, file);
        if (beside && try_path(known, path))
            return true;
        snprintf(path, sizeof(path), "%s/kernels/cuda/%s", folder, file);
        if (try_path(known, path))
            return true;
    }
    return false;
}

static void look(struct known *known)
{
    char file[64], path[PATH_MAX];

    snprintf(file, sizeof(file), "mserve-%s.so", known->name);
    snprintf(path, sizeof(path), MSERVE_MODULE_DIR "/%s", file);
    if (try_named(known) || try_program(known, file) || try_path(known, path))
        return;
    snprintf(known->why, sizeof(known->why),
             "%s is not there: this build has none, and " MSERVE_MODULE_DIR " neither", file);
}

const struct gpu_module *module_open(const char *name, const char **ret_why)
{
    struct known *known = NULL;

    for (size_t i = 0; i < sizeof(knowns) / sizeof(knowns[0]); i++)
        if (strcmp(knowns[i].name, name) == 0)
            known = &knowns[i];
    if (known == NULL) {
        *ret_why = "there is no GPU module of that name";
        return NULL;
    }
    pthread_mutex_lock(&lock);
    if (!known->looked)
        look(known);
    known->looked = true;
    pthread_mutex_unlock(&lock);
    *ret_why = known->why;
    return known->module;
}
