/* test_cuda_module.c: which GPU module a process gets, and what is said where it gets none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cuda/module.h"

static void refused(const char *path, const char *words)
{
    char why[MODULE_WHY_SIZE] = "";

    assert_null(module_load(path, why));
    if (strstr(why, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, why);
}

static void test_a_module_is_loaded(void **state)
{
    char why[MODULE_WHY_SIZE];
    const struct gpu_module *module = module_load(EMU_MODULE, why);

    (void)state;
    assert_non_null(module);
    assert_string_equal(module->name, "cuda-emu");
    assert_non_null(module->kernels);
}

static void test_an_absent_file_is_named(void **state)
{
    (void)state;
    refused("/nowhere/mserve-cuda.so", "/nowhere/mserve-cuda.so");
}

/* An empty file, one of words, and the beginning of a real one. */
static void test_a_damaged_file_is_refused(void **state)
{
    char path[] = "/tmp/mserve-module-XXXXXX", head[64];
    int file = mkstemp(path);
    FILE *real = fopen(EMU_MODULE, "rb");

    (void)state;
    assert_true(file >= 0);
    assert_non_null(real);
    assert_int_equal(fread(head, 1, sizeof(head), real), sizeof(head));
    fclose(real);
    refused(path, path);
    assert_int_equal(write(file, "this is no shared object\n", 25), 25);
    refused(path, path);
    assert_int_equal(pwrite(file, head, sizeof(head), 0), sizeof(head));
    refused(path, path);
    close(file);
    unlink(path);
}

static void test_a_module_of_another_face_is_refused(void **state)
{
    (void)state;
    refused(OTHER_FACE, "it is of another version");
}

static void test_a_library_that_is_no_module_is_refused(void **state)
{
    (void)state;
    refused(FAKE_LIBRARY, "is no module of mserve");
}

/* What module_open() says in a process of its own, which has not looked before. */
static void open_in_child(const char *named, const char *name, bool found, const char *words)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        const char *why = "", *again = "";
        const struct gpu_module *module;
        if (named != NULL)
            setenv("MSERVE_GPU_MODULE", named, 1);
        else
            unsetenv("MSERVE_GPU_MODULE");
        module = module_open(name, &why);
        if ((module != NULL) != found || module_open(name, &again) != module)
            _exit(1);
        if (found)
            _exit(strcmp(module->name, words) != 0 ? 2 : 0);
        _exit(strstr(why, words) == NULL || strcmp(why, again) != 0 ? 3 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The test program lies in the build, and so does the emulation. */
static void test_a_program_finds_the_module_of_its_build(void **state)
{
    (void)state;
    open_in_child(NULL, "cuda-emu", true, "cuda-emu");
    open_in_child("", "cuda-emu", true, "cuda-emu");
}

static void test_the_environment_comes_first(void **state)
{
    (void)state;
    open_in_child(EMU_MODULE, "cuda-emu", true, "cuda-emu");
    open_in_child("/nowhere/module.so", "cuda-emu", false, "/nowhere/module.so");
    open_in_child(OTHER_FACE, "cuda-emu", false, "it is of another version");
}

static void test_an_unknown_name_is_no_module(void **state)
{
    (void)state;
    open_in_child(NULL, "opencl", false, "no GPU module of that name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_absent_file_is_named),
        cmocka_unit_test(test_a_damaged_file_is_refused),
        cmocka_unit_test(test_a_module_of_another_face_is_refused),
        cmocka_unit_test(test_a_library_that_is_no_module_is_refused),
        cmocka_unit_test(test_a_program_finds_the_module_of_its_build),
        cmocka_unit_test(test_the_environment_comes_first),
        cmocka_unit_test(test_an_unknown_name_is_no_module),
        cmocka_unit_test(test_a_module_is_loaded),
    };

    return cmocka_run_group_tests_name("cuda_module", tests, NULL, NULL);
}
