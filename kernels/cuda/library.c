/* A table of folders with wild cards, tried one after the other. */
#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const struct library_kind library_cublaslt = {
    "libcublasLt",
    "MSERVE_CUBLASLT",
    {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"},
    "cublasLtCreate",
    true,
};

const struct library_kind library_nvml = {
    "NVML", NULL, {"libnvidia-ml.so.1", "libnvidia-ml.so"}, "nvmlInit_v2", false,
};

/* Folders, below what a variable names or from the root; the last match of a wild card goes first. */
static const struct {
    const char *variable, *pattern;
} places[] = {
    {"CUDA_HOME", "lib64"},
    {"CUDA_HOME", "lib"},
    {NULL, "/usr/local/cuda*/lib64"},
    {NULL, "/usr/local/cuda*/targets/*/lib"},
    {"VIRTUAL_ENV", "lib/python3*/site-packages/nvidia/cu13/lib"},
    {"VIRTUAL_ENV", "lib/python3*/site-packages/nvidia/cublas/lib"},
    {"CONDA_PREFIX", "lib/python3*/site-packages/nvidia/cu13/lib"},
    {"CONDA_PREFIX", "lib/python3*/site-packages/nvidia/cublas/lib"},
    {"CONDA_PREFIX", "lib"},
    {"HOME", ".local/lib/python3*/site-packages/nvidia/cu13/lib"},
    {"HOME", ".local/lib/python3*/site-packages/nvidia/cublas/lib"},
    {NULL, "/usr/local/lib/python3*/*-packages/nvidia/cu13/lib"},
    {NULL, "/usr/local/lib/python3*/*-packages/nvidia/cublas/lib"},
    {NULL, "/usr/lib/python3*/*-packages/nvidia/cu13/lib"},
    {NULL, "/usr/lib/python3*/*-packages/nvidia/cublas/lib"},
    {NULL, "/opt/conda/lib/python3*/site-packages/nvidia/cu13/lib"},
    {NULL, "/opt/conda/lib/python3*/site-packages/nvidia/cublas/lib"},
};

static const char *variable(const char *name)
{
    const char *value = name ? getenv(name) : NULL;

    return value && value[0] ? value : NULL;
}

/* A file that opens and has the function. */
static bool try_file(const struct library_kind *kind, const char *path, struct library *ret)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!handle)
        return false;
    if (!dlsym(handle, kind->probe)) {
        dlclose(handle);
        return false;
    }
    ret->handle = handle;
    snprintf(ret->path, sizeof(ret->path), "%s", path);
    return true;
}

static bool try_folder(const struct library_kind *kind, const char *folder, struct library *ret)
{
    for (unsigned i = 0; i < 4 && kind->files[i]; i++) {
        char path[LIBRARY_PATH_SIZE];
        int len = snprintf(path, sizeof(path), "%s/%s", folder, kind->files[i]);

        if (len > 0 && (size_t)len < sizeof(path) && try_file(kind, path, ret))
            return true;
    }
    return false;
}

static bool try_named(const struct library_kind *kind, const char *named, struct library *ret)
{
    struct stat about;

    if (stat(named, &about) == 0 && S_ISDIR(about.st_mode))
        return try_folder(kind, named, ret);
    return try_file(kind, named, ret);
}

static bool try_loader(const struct library_kind *kind, struct library *ret)
{
    for (unsigned i = 0; i < 4 && kind->files[i]; i++)
        if (try_file(kind, kind->files[i], ret))
            return true;
    return false;
}

static bool try_pattern(const struct library_kind *kind, const char *pattern, struct library *ret)
{
    bool found = false;
    glob_t matches;

    if (glob(pattern, 0, NULL, &matches) != 0)
        return false;
    for (size_t i = matches.gl_pathc; i-- > 0 && !found;)
        found = try_folder(kind, matches.gl_pathv[i], ret);
    globfree(&matches);
    return found;
}

static bool try_places(const struct library_kind *kind, struct library *ret)
{
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const char *root = places[i].variable ? variable(places[i].variable) : "";
        char pattern[LIBRARY_PATH_SIZE];
        int len;

        if (!root)
            continue;
        len = snprintf(pattern, sizeof(pattern), "%s%s%s", root, root[0] ? "/" : "",
                       places[i].pattern);
        if (len > 0 && (size_t)len < sizeof(pattern) && try_pattern(kind, pattern, ret))
            return true;
    }
    return false;
}

static void say_where(const struct library_kind *kind, char why[LIBRARY_WHY_SIZE])
{
    size_t len =
        (size_t)snprintf(why, LIBRARY_WHY_SIZE, "%s was not found: looked for", kind->name);

    for (unsigned i = 0; i < 4 && kind->files[i]; i++)
        len += (size_t)snprintf(why + len, LIBRARY_WHY_SIZE - len, "%s %s", i ? "," : "",
                                kind->files[i]);
    len += (size_t)snprintf(why + len, LIBRARY_WHY_SIZE - len, " in the loader's path");
    if (kind->everywhere)
        len += (size_t)snprintf(why + len, LIBRARY_WHY_SIZE - len,
                                ", in $CUDA_HOME and /usr/local/cuda*, and beside PyTorch in "
                                "$VIRTUAL_ENV, $CONDA_PREFIX, ~/.local and the system's python3");
    if (kind->variable)
        snprintf(why + len, LIBRARY_WHY_SIZE - len, "; %s can name the file", kind->variable);
}

bool library_open(const struct library_kind *kind, const struct gpu_module *module,
                  struct library *ret, char why[LIBRARY_WHY_SIZE])
{
    const char *named = variable(kind->variable);

    memset(ret, 0, sizeof(*ret));
    if (module && module->symbol(kind->probe)) {
        ret->module = module;
        snprintf(ret->path, sizeof(ret->path), "the one of %s", module->name);
        return true;
    }
    if (module && strcmp(module->name, "cuda") != 0) {
        snprintf(why, LIBRARY_WHY_SIZE, "%s: %s has none", kind->name, module->name);
        return false;
    }
    if (named) {
        if (try_named(kind, named, ret))
            return true;
        snprintf(why, LIBRARY_WHY_SIZE, "%s: %s=%.*s is no such library or a folder without one",
                 kind->name, kind->variable, LIBRARY_PATH_SIZE, named);
        return false;
    }
    if (try_loader(kind, ret) || (kind->everywhere && try_places(kind, ret)))
        return true;
    say_where(kind, why);
    return false;
}

void *library_symbol(const struct library *library, const char *name)
{
    if (library->module)
        return library->module->symbol(name);
    return library->handle ? dlsym(library->handle, name) : NULL;
}

void library_close(struct library *library)
{
    if (library->handle)
        dlclose(library->handle);
    memset(library, 0, sizeof(*library));
}
