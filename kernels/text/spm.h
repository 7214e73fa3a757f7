/*
 * spm.h: byte-pair merging by score, as SentencePiece does it: the heart of tokenizer.c.
 *
 * Text, with U+2581 for blanks, is cut into characters; then again and again the adjacent pair is
 * joined whose joint text is the token of the highest score (the leftmost among equals). What is no
 * token in the end is spelled in byte tokens.
 */
#ifndef MSERVE_KERNELS_TEXT_SPM_H
#define MSERVE_KERNELS_TEXT_SPM_H

#include "kernels/text/tokenizer.h"

enum { SPM_USER_MAX = 4096 };

struct spm {
    const struct slice *text; /* [vocab] as in the file; borrowed */
    const float *score;       /* [vocab] finite; borrowed */
    uint32_t vocab;
    uint32_t longest;       /* bytes of the longest text in `slot` */
    uint32_t *slot;         /* hash table of ids + 1, linear probing; 0 is free */
    uint32_t slot_mask;     /* its size - 1 */
    uint32_t byte[256];     /* ids */
    bool blank_first;       /* text begins with a blank of its own */
    uint32_t *user;         /* user-defined tokens, found in raw text before all else; */
    uint32_t user_len;      /* the longest first */
    uint8_t joins[256][32]; /* bit (a, b): some token has a character that ends in byte a before
                             * one that begins with byte b */
};

/* Empty, for `vocab` tokens of which the texts may be set later. */
void spm_init(struct spm *spm, const struct slice *text, const float *score, uint32_t vocab);
void spm_release(struct spm *spm);

/* Makes token `id` one that text is cut into. Of two with one text, the later counts. */
void spm_add(struct spm *spm, uint32_t id);
void spm_add_user(struct spm *spm, uint32_t id); /* after all spm_add(), longest first */

/* Appends the ids. ERR_LIMIT as tokenizer_encode(); then `out` may have grown. */
enum err spm_encode(const struct spm *spm, struct slice text, uint32_t tokens_max,
                    struct tokens *out);

#endif
