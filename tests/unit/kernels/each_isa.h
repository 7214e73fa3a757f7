/*
 * each_isa.h: a test once for each instruction set. Its initial state is the name of the set; where
 * the machine lacks it, the test skips, by a name that stands in tests/skips. After cmocka.h.
 */
#ifndef MSERVE_TESTS_KERNELS_EACH_ISA_H
#define MSERVE_TESTS_KERNELS_EACH_ISA_H

#define EACH(test)                                                                                 \
    {#test "_scalar", test, NULL, NULL, "scalar"}, {#test "_avx2", test, NULL, NULL, "avx2"},      \
    {                                                                                              \
#test "_avx512", test, NULL, NULL, "avx512"                                                \
    }

#endif
