/*
 * row_runs.h: a kernel that works row by row, as its tests see it: rows in, rows out. A run puts rows
 * on the card among poison, and fails when the kernel wrote where no row of its own is. From it
 * follows what holds for all of them: a row's bits are the same alone, among others, under another
 * `most`, in a block that does other rows before it, and where nothing can be moved 16 bytes at a
 * time.
 */
#ifndef MSERVE_TESTS_ROW_RUNS_H
#define MSERVE_TESTS_ROW_RUNS_H

#include "gpu_rig.h"

struct CMUnitTest;

enum { ROW_ARRAYS_MAX = 4 };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One array of rows side by side. */
struct row_array {
    uint32_t unit;  /* bytes of a number */
    uint32_t width; /* numbers of a row */
    const void *in; /* [rows][width]; NULL: it is only written */
    void *out;      /* [rows][width], what it holds afterwards; NULL: nobody looks */
};

struct row_run {
    struct row_array array[ROW_ARRAYS_MAX];
    uint32_t arrays;
    uint32_t rows, most;
    uint32_t blocks; /* 0: as many as `most` asks for; fewer go from row to row */
    uint32_t shift;  /* the arrays begin so many numbers past a multiple of 256 bytes */
    /* Enqueues the kernel; at[i] is where array i is. */
    void (*launch)(struct rig *rig, const struct row_run *run, struct extent rows, void **at);
    const void *with; /* for launch() */
};

void row_run(struct rig *rig, const struct row_run *run);

/* Runs it, then in all the other ways, and compares; what came of it is in the arrays' `out`. */
void row_run_every_way(struct rig *rig, const struct row_run *run);

/* A number of one of the types of launch.h, by its bits. */
double number_value(enum number type, uint32_t bits);
uint32_t number_at(enum number type, const void *array, size_t index);

/* That the bits are those of a number that is at most `error` from `want`, rounded; or both NaN. */
void assert_number(enum number type, uint32_t bits, double want, double error);

/*
 * That rows of a struct prepared, as they came back, are the numbers wanted, each off by at most
 * `part` of itself before it was rounded.
 */
void assert_prepared(enum number type, const void *value, const float *scale, const double *want,
                     double part, uint32_t rows, uint32_t width);

/* What rows are prepared as; bytes of a number. */
extern const enum number number_prepared[3];
uint32_t number_bytes(enum number type);

/* Zeros that the caller frees; rows of other sizes, each with a few numbers far larger than the rest. */
void *some_room(size_t len, size_t unit);
float *some_floats(uint32_t rows, uint32_t len, uint64_t seed);
uint16_t *some_bf16(uint32_t rows, uint32_t len, uint64_t seed);

/* The group of tests, once for each schedule of the emulation, or on the GPU that is there. */
#define run_on_every_schedule(tests) row_runs_main(tests, COUNT(tests))
int row_runs_main(const struct CMUnitTest *tests, size_t len);

#endif
