/*
 * mix.h: random requests of all kinds by the hundred, and what comes out of them: whole groups with
 * a tree of beginnings, every way to sample, stop strings, log-probabilities, embeddings, resumed
 * ones, several choices of one prompt. Same seed, same requests.
 */
#ifndef MSERVE_TESTS_KERNELS_MIX_H
#define MSERVE_TESTS_KERNELS_MIX_H

#include "engine_rig.h"

#include <stdbool.h>
#include <stdint.h>

enum { MIX_PROMPT_MAX = 200, MIX_GROUPS = 5, MIX_VOCAB = 320, MIX_CONTEXT = 256 };

/* Under sanitizers, which look at other things and take ten times as long, a part of the work. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MIX_IS_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define MIX_IS_SANITIZED 1
#endif
#if defined(MIX_IS_SANITIZED)
enum { MIX_REQUESTS = 100, MIX_STEPS = 13 };
#else
enum { MIX_REQUESTS = 500, MIX_STEPS = 1 };
#endif

struct mix {
    uint32_t len;
    struct engine_request *request; /* [len] tag i is request i */
    struct outcome *outcome;        /* [len] */
    uint32_t seen;                  /* outcomes */
    uint32_t *ids;                  /* of the prompts */
};

/* What they are like. */
struct mix_kind {
    uint64_t seed;
    uint32_t tokens_max; /* that any of them generates */
    bool growing;        /* short prompts with long answers: they want most of their memory late */
};

void mix_init(struct mix *mix, const struct mix_kind *kind, uint32_t len);
void mix_release(struct mix *mix);

/* How mix_run() submits them. */
struct mix_way {
    uint64_t shuffle; /* 0: in order */
    bool apart;       /* without groups */
    bool no_forecasts;
};

/*
 * Runs all of them in an engine that it opens, forgetting earlier outcomes; as many wait as the
 * options allow. Looks at the books and the rest (rig_check) now and then. The engine is the
 * caller's to close.
 */
struct engine *mix_run(struct mix *mix, const struct engine_options *options,
                       const struct mix_way *way);

/* Takes the events there are. */
void mix_poll(struct mix *mix, struct engine *engine);

/* For a group of tests: makes and removes the file of a small random model, of MIX_VOCAB ids. */
int mix_make_model(void **state);
int mix_remove_model(void **state);

/* That model, one thread, 8 sequences, 64 rows, contexts of MIX_CONTEXT. */
struct engine_options mix_options(const char *backend);

/* One at a time, each prompt in one piece, nothing shared. */
void mix_run_alone(struct mix *mix, const struct engine_options *options, struct outcome *ret);

/*
 * Calls check() for each backend of this build that computes, but not for a GPU that is played by the
 * processor: cuda/test_cuda_mix.c does with fewer. MSERVE_TEST_BACKEND names one, and it alone is asked.
 */
void mix_for_backends(void (*check)(const char *backend));

/* Equal to the last bit: ids, log-probabilities, text, embeddings, ends. */
void mix_check_same(const struct mix *mix, const struct outcome *expected);

#endif
