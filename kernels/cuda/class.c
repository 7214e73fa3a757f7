/* One table of families; the rest is asked of the card. */
#include "kernels/cuda/class.h"

enum { PROPOSALS = 32 };

enum verdict { PREFERRED, NEVER };

/*
 * By cuBLASLt's algorithm id (ALGO_CONFIG_ID). What is not listed may be a class where nothing
 * preferred is proposed, and may stand for any class whose bits it has.
 */
static const struct {
    int32_t id;
    enum verdict verdict;
} families[] = {
    /* Kernels made for Hopper and later. On H100 and GB300 its tiles were measured by others to
     * differ in nothing but the time: one order over K. */
    {66, PREFERRED},
    /* For few rows, in CUDA cores: threads share one sum and fold it as a tree. What data of ours
     * happen not to show is no reason to take one. */
    {11, NEVER},
    {13, NEVER},
    {14, NEVER},
    {16, NEVER},
};

static bool is(int32_t id, enum verdict verdict)
{
    for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (families[i].id == id && families[i].verdict == verdict)
            return true;
    return false;
}

bool class_allows(struct multiply_about about)
{
    /* Splits of K were seen to lose its tail (H100, 13.1.1), and add up in another order anyhow. */
    return about.id >= 0 && (about.split_k == 0 || about.split_k == 1) &&
           about.reduction == BLAS_REDUCTION_NONE && !is(about.id, NEVER);
}

static bool proposes(const struct multiply *multiply, const struct blas_proposal *proposal)
{
    return proposal->state == BLAS_SUCCESS && proposal->workspace_bytes == 0 &&
           class_allows(multiply_describe(multiply, &proposal->algo));
}

static bool holds(struct probe *probe, const struct multiply *multiply,
                  const struct multiply_rows *rows, const struct blas_algo *algo)
{
    return probe_fix(probe, multiply, rows, algo) &&
           probe_same(probe, multiply, rows, algo, PROBE_ARRANGEMENTS) && probe_right(probe);
}

static bool find_at(struct probe *probe, const struct multiply *multiply,
                    const struct multiply_rows *rows, struct blas_algo *ret)
{
    struct blas_proposal proposal[PROPOSALS];
    uint32_t len = multiply_propose(multiply, rows, 0, PROPOSALS, proposal);

    for (unsigned pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < len; i++) {
            const struct blas_algo *algo = &proposal[i].algo;

            if (!proposes(multiply, &proposal[i]) ||
                is(multiply_describe(multiply, algo).id, PREFERRED) != (pass == 0))
                continue;
            if (holds(probe, multiply, rows, algo)) {
                *ret = *algo;
                return true;
            }
        }
    return false;
}

bool class_find(struct probe *probe, const struct multiply *multiply, struct blas_algo *ret)
{
    struct multiply_rows rows;
    bool found =
        multiply_rows_open(multiply, CLASS_ROWS, &rows) && find_at(probe, multiply, &rows, ret);

    multiply_rows_close(multiply, &rows);
    return found;
}

bool class_likely(const struct multiply *multiply)
{
    struct blas_proposal proposal[PROPOSALS];
    struct multiply_rows rows;
    bool likely = false;
    uint32_t len = 0;

    if (multiply_rows_open(multiply, CLASS_ROWS, &rows))
        len = multiply_propose(multiply, &rows, 0, PROPOSALS, proposal);
    for (uint32_t i = 0; i < len; i++)
        likely = likely || proposes(multiply, &proposal[i]);
    multiply_rows_close(multiply, &rows);
    return likely;
}
