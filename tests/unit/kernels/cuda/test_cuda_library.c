/* library.h: which library is taken where there are several, and what is said where there is none. */
#include "kernels/cuda/library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const struct library_kind kind = {
    "libfake", "MSERVE_FAKE", {"libfake.so.13", "libfake.so.12"}, "mserve_fake_answer", true,
};

static char root[] = "/tmp/mserve-library-XXXXXX";

/* Makes the folders of `path` below the root, and puts the fake library there under that name. */
static void put(const char *path)
{
    char whole[512];

    snprintf(whole, sizeof(whole), "%s/%s", root, path);
    for (char *slash = whole + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    assert_int_equal(symlink(FAKE_LIBRARY, whole), 0);
}

static void name(const char *variable, const char *path)
{
    char whole[512];

    snprintf(whole, sizeof(whole), "%s/%s", root, path);
    setenv(variable, whole, 1);
}

static void expect(const char *path)
{
    char why[LIBRARY_WHY_SIZE], whole[512];
    struct library library;
    int (*answer)(void);
    void *at;

    snprintf(whole, sizeof(whole), "%s/%s", root, path);
    assert_true(library_open(&kind, NULL, &library, why));
    assert_string_equal(library.path, whole);
    at = library_symbol(&library, "mserve_fake_answer");
    assert_non_null(at);
    memcpy(&answer, &at, sizeof(answer));
    assert_int_equal(answer(), 42);
    assert_null(library_symbol(&library, "mserve_fake_question"));
    library_close(&library);
}

static int setup(void **state)
{
    (void)state;
    memcpy(root + strlen(root) - 6, "XXXXXX", 6);
    if (!mkdtemp(root))
        return -1;
    unsetenv("MSERVE_FAKE");
    unsetenv("CUDA_HOME");
    unsetenv("VIRTUAL_ENV");
    unsetenv("CONDA_PREFIX");
    name("HOME", "home");
    return 0;
}

static int teardown(void **state)
{
    char command[600];

    (void)state;
    snprintf(command, sizeof(command), "rm -r '%s'", root);
    return system(command);
}

/* A person who names the file, or the folder it is in, gets that one. */
static void test_what_is_named_is_taken(void **state)
{
    (void)state;
    put("own/libfake.so.12");
    put("home/.local/lib/python3.11/site-packages/nvidia/cu13/lib/libfake.so.13");
    name("MSERVE_FAKE", "own/libfake.so.12");
    expect("own/libfake.so.12");
    name("MSERVE_FAKE", "own");
    expect("own/libfake.so.12");
    put("own/libfake.so.13");
    expect("own/libfake.so.13");
}

/* What is named and is not there is said; nothing else is taken for it. */
static void test_a_wrong_name_is_said(void **state)
{
    char why[LIBRARY_WHY_SIZE];
    struct library library;

    (void)state;
    put("home/.local/lib/python3.11/site-packages/nvidia/cu13/lib/libfake.so.13");
    name("MSERVE_FAKE", "nowhere");
    assert_false(library_open(&kind, NULL, &library, why));
    assert_non_null(strstr(why, "MSERVE_FAKE="));
    assert_non_null(strstr(why, "nowhere"));
    setenv("MSERVE_FAKE", "/etc/passwd", 1);
    assert_false(library_open(&kind, NULL, &library, why));
}

/* The toolkit comes before Python's, a virtual environment before the home; none is started. */
static void test_the_places_have_their_order(void **state)
{
    (void)state;
    put("home/.local/lib/python3.9/site-packages/nvidia/cublas/lib/libfake.so.12");
    expect("home/.local/lib/python3.9/site-packages/nvidia/cublas/lib/libfake.so.12");
    put("home/.local/lib/python3.9/site-packages/nvidia/cu13/lib/libfake.so.13");
    expect("home/.local/lib/python3.9/site-packages/nvidia/cu13/lib/libfake.so.13");
    put("venv/lib/python3.11/site-packages/nvidia/cublas/lib/libfake.so.12");
    name("VIRTUAL_ENV", "venv");
    expect("venv/lib/python3.11/site-packages/nvidia/cublas/lib/libfake.so.12");
    put("cuda/lib64/libfake.so.13");
    name("CUDA_HOME", "cuda");
    expect("cuda/lib64/libfake.so.13");
}

/* A library of that name without the function is somebody else's. */
static void test_another_library_of_that_name_is_passed_by(void **state)
{
    static const struct library_kind other = {
        "libfake", "MSERVE_FAKE", {"libfake.so.13"}, "cublasLtCreate", true};
    char why[LIBRARY_WHY_SIZE];
    struct library library;

    (void)state;
    put("venv/lib/python3.11/site-packages/nvidia/cu13/lib/libfake.so.13");
    name("VIRTUAL_ENV", "venv");
    assert_false(library_open(&other, NULL, &library, why));
}

/* One sentence says what was looked for and where, and how to help. */
static void test_where_was_looked_is_said(void **state)
{
    char why[LIBRARY_WHY_SIZE];
    struct library library;

    (void)state;
    assert_false(library_open(&kind, NULL, &library, why));
    assert_non_null(strstr(why, "libfake was not found"));
    assert_non_null(strstr(why, "libfake.so.13, libfake.so.12"));
    assert_non_null(strstr(why, "loader's path"));
    assert_non_null(strstr(why, "PyTorch"));
    assert_non_null(strstr(why, "MSERVE_FAKE can name the file"));
}

static int own_answer(void)
{
    return 7;
}

static void *own_symbol(const char *symbol)
{
    int (*answer)(void) = own_answer;
    void *at;

    memcpy(&at, &answer, sizeof(at));
    return strcmp(symbol, "mserve_fake_answer") == 0 ? at : NULL;
}

static void *no_symbol(const char *symbol)
{
    (void)symbol;
    return NULL;
}

/* A module's own goes before everything; a GPU that is played takes no library for real ones. */
static void test_a_module_brings_its_own(void **state)
{
    const struct gpu_module own = {.name = "cuda-emu", .symbol = own_symbol};
    const struct gpu_module none = {.name = "cuda-emu", .symbol = no_symbol};
    const struct gpu_module real = {.name = "cuda", .symbol = no_symbol};
    char why[LIBRARY_WHY_SIZE];
    struct library library;

    (void)state;
    put("own/libfake.so.13");
    name("MSERVE_FAKE", "own");
    assert_true(library_open(&kind, &own, &library, why));
    assert_string_equal(library.path, "the one of cuda-emu");
    assert_ptr_equal(library_symbol(&library, "mserve_fake_answer"),
                     own_symbol("mserve_fake_answer"));
    library_close(&library);
    assert_false(library_open(&kind, &none, &library, why));
    assert_non_null(strstr(why, "cuda-emu has none"));
    assert_true(library_open(&kind, &real, &library, why));
    library_close(&library);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_what_is_named_is_taken),
        TEST(test_a_wrong_name_is_said),
        TEST(test_the_places_have_their_order),
        TEST(test_another_library_of_that_name_is_passed_by),
        TEST(test_where_was_looked_is_said),
        TEST(test_a_module_brings_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
