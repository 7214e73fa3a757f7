/* symbols.cc: the functions of symbols.cuh by name. */
#include "kernels/cuda/emu/symbols.cuh"

#include <stddef.h>
#include <string.h>

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

void *emu_symbol(const char *name)
{
    for (const struct symbol_row *row = rows; row->name != NULL; row++)
        if (strcmp(row->name, name) == 0)
            return reinterpret_cast<void *>(row->function);
    return NULL;
}
