/* A library to be found (test_cuda_library.c). */
int mserve_fake_answer(void);
int mserve_fake_answer(void)
{
    return 42;
}
