/* symbols.cc: the functions of symbols.cuh by name. */
#include "kernels/cuda/emu/symbols.cuh"

#include <stddef.h>
#include <string.h>

#include "kernels/cuda/emu/settings.cuh"

extern "C" {
#define X(name) void emu_##name(void);
EMU_SYMBOLS(X)
#undef X
}

static const struct symbol_row {
    const char *name;
    void (*function)(void);
} rows[] = {
#define X(name) {#name, emu_##name},
    EMU_SYMBOLS(X)
#undef X
        {NULL, NULL}};

static bool has_blas()
{
    struct emu_settings settings;
    const char *why;

    return !emu_settings_read(&settings, &why) || settings.blas != EMU_BLAS_NONE;
}

void *emu_symbol(const char *name)
{
    if (strncmp(name, "cublasLt", 8) == 0 && !has_blas())
        return NULL;
    for (const struct symbol_row *row = rows; row->name != NULL; row++)
        if (strcmp(row->name, name) == 0)
            return reinterpret_cast<void *>(row->function);
    return NULL;
}
