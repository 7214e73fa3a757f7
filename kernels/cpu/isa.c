/* isa.c: levels of instruction sets, from what cpuid says and what the operating system saves. */
#include "kernels/cpu/isa.h"

#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
#endif

enum {
    LEAF1_ECX_AVX2 = 1 << 12 | 1 << 27 | 1 << 28 | 1 << 29, /* FMA, OSXSAVE, AVX, F16C */
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512 = 1 << 16 | 1 << 17 | 1 << 30, /* F, DQ, BW; VL is the sign bit */
    LEAF7_ECX_VNNI = 1 << 11,
    LEAF7_1_EAX_BF16 = 1 << 5,
    XCR0_YMM = 0x06,
    XCR0_ZMM = 0xe6,
};

static bool has(uint32_t word, uint32_t bits)
{
    return (word & bits) == bits;
}

enum isa isa_of(const struct isa_words *words)
{
    if (!has(words->leaf1_ecx, LEAF1_ECX_AVX2) || !has(words->leaf7_ebx, LEAF7_EBX_AVX2) ||
        !has(words->xcr0, XCR0_YMM))
        return ISA_SCALAR;
    if (!has(words->leaf7_ebx, LEAF7_EBX_AVX512 | 1u << 31) ||
        !has(words->leaf7_ecx, LEAF7_ECX_VNNI) || !has(words->xcr0, XCR0_ZMM))
        return ISA_AVX2;
    return has(words->leaf7_1_eax, LEAF7_1_EAX_BF16) ? ISA_AVX512_BF16 : ISA_AVX512;
}

enum isa isa_best(void)
{
    struct isa_words words = {0};
#ifdef __x86_64__
    uint32_t eax, ebx, ecx, edx;

    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        words.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        words.leaf7_ebx = ebx;
        words.leaf7_ecx = ecx;
        if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
            words.leaf7_1_eax = eax;
    }
    if (has(words.leaf1_ecx, 1u << 27))
        __asm__("xgetbv" : "=a"(words.xcr0), "=d"(edx) : "c"(0));
#endif
    return isa_of(&words);
}

static const char *const names[ISA_COUNT] = {
    [ISA_SCALAR] = "scalar",
    [ISA_AVX2] = "avx2",
    [ISA_AVX512] = "avx512",
    [ISA_AVX512_BF16] = "avx512_bf16",
};

const char *isa_name(enum isa isa)
{
    return names[isa];
}

bool isa_find(const char *name, enum isa *ret)
{
    enum isa best = isa_best();

    if (name[0] == '\0') {
        *ret = best;
        return true;
    }
    for (enum isa isa = ISA_SCALAR; isa <= best; isa++)
        if (strcmp(name, names[isa]) == 0) {
            *ret = isa;
            return true;
        }
    return false;
}
