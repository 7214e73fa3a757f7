/*
 * model.h: a model of the llama architecture: its numbers, its tensors, its tokenizer, all checked
 * against each other. Nothing is computed here and no weight is copied.
 *
 * Grouped-query attention; embeddings tied to the output (no output.weight) or not; rotary positions
 * over pairs of neighbours (2i, 2i + 1), with rope_freqs.weight where the file has it. A file that
 * asks for more (experts, other rope scaling, biases) is refused, never run differently.
 *
 * Immutable once open: any thread may read it.
 */
#ifndef MSERVE_KERNELS_MODEL_MODEL_H
#define MSERVE_KERNELS_MODEL_MODEL_H

#include "kernels/engine.h"
#include "kernels/model/gguf.h"
#include "kernels/text/chat.h"
#include "kernels/text/tokenizer.h"

struct model_hyper {
    uint32_t layers;
    uint32_t embed;    /* E */
    uint32_t heads;    /* H: of queries */
    uint32_t kv_heads; /* G: divides H */
    uint32_t head_dim; /* D */
    uint32_t rope_dim; /* even, <= D: as many first dimensions of a head are rotated */
    uint32_t ff;       /* F */
    uint32_t vocab;    /* V */
    uint32_t context;  /* tokens that it was trained for */
    float rms_eps;
    float rope_base;
};

/* Shapes as [rows][columns], the columns being the file's fastest dimension. */
struct model_layer {
    const struct gguf_tensor *attn_norm;   /* [E] */
    const struct gguf_tensor *attn_q;      /* [H D][E] */
    const struct gguf_tensor *attn_k;      /* [G D][E] */
    const struct gguf_tensor *attn_v;      /* [G D][E] */
    const struct gguf_tensor *attn_output; /* [E][H D] */
    const struct gguf_tensor *ffn_norm;    /* [E] */
    const struct gguf_tensor *ffn_gate;    /* [F][E] */
    const struct gguf_tensor *ffn_up;      /* [F][E] */
    const struct gguf_tensor *ffn_down;    /* [E][F] */
};

struct model {
    struct gguf *gguf;
    struct model_hyper hyper;
    const struct gguf_tensor *token_embd;  /* [V][E] */
    const struct gguf_tensor *output_norm; /* [E] */
    const struct gguf_tensor *output;      /* [V][E]; token_embd where they are tied */
    const struct gguf_tensor *rope_freqs;  /* [rope_dim / 2] divisors of the angles, or NULL */
    struct model_layer *layer;             /* [layers] */
    struct tokenizer *tokenizer;
    const struct chat_format *chat; /* or NULL */
};

enum err model_open(const char *path, struct model **ret);

/* The same of a file that is open already; it is the model's from the call on, also on failure. */
enum err model_new(struct gguf *gguf, struct model **ret);
void model_close(struct model *model); /* NULL is allowed */

/* SHA-256 of the whole file, read for it. `wanted`: 64 hex digits that it must have, or NULL. */
enum err model_digest(const struct model *model, const char *wanted, uint8_t ret[32]);

/* Radians per position of each rotated pair: base^(-2i / rope_dim), divided by what the file says. */
void model_frequencies(const struct model *model, double *ret); /* [rope_dim / 2] */

/* Fills name, vocab, context_max, embedding_len, chat_format; the rest is the engine's. */
void model_describe(const struct model *model, struct engine_model *ret);

#endif
