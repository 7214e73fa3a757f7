#!/usr/bin/env python3
"""train.py: trains the demo model from random weights and writes it as GGUF.

    pip install -r requirements.txt
    train.py tldr-pages-en-de-fr-es-zh-pt-it.tar.gz mserve-demo-lang.gguf

A Llama-architecture decoder over bytes: RMSNorm, interleaved RoPE, grouped-query attention, SwiGLU,
separate output matrix. A batch holds prompts of one length bucket, all seven languages alike. The
loss is the cross-entropy of the answer, plus a little of the document's own bytes, which teaches
the lower layers what words are long before the answers alone would. AdamW, cosine decay.

The seed fixes weights and data; XLA on another processor rounds differently, so the same seed
gives the same file only on the same kind of machine.
"""

import argparse
import functools
import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads=2")

import jax
import jax.numpy as jnp
import numpy as np

import gguf_file
from documents import DocumentSource, load_pages
from lang_format import (BOS, CHAT_TEMPLATE, CONTEXT_TOKENS, EOS, LANGUAGES, UNK, VOCAB_SIZE,
                         answer, chat_prompt, completion_prompt, encode, tokenizer_tables)

DIM, LAYERS, HEADS, KV_HEADS, FFN = 128, 3, 4, 2, 320
HEAD_DIM = DIM // HEADS
NORM_EPS, ROPE_BASE = 1e-5, 10000.0

# tokens a row -> share of the steps; each batch holds TOKENS_PER_STEP in all.
BUCKETS = {64: 0.20, 128: 0.27, 256: 0.28, 512: 0.17, 1024: 0.08}
TOKENS_PER_STEP = 8192
PROMPT_BYTES_MAX = 30  # of a prompt around the document, with <s>, answer and </s>; see make_row


def init_weights(rng):
    """{GGUF tensor name: array}; a matrix is [outputs, inputs]."""
    def matrix(rows, columns, scale=1.0):
        return (rng.standard_normal((rows, columns)) * scale / np.sqrt(columns)).astype(np.float32)

    ones = lambda: np.ones(DIM, np.float32)
    weights = {"token_embd.weight": matrix(VOCAB_SIZE, DIM)}
    residual_scale = 1 / np.sqrt(2 * LAYERS)
    for layer in range(LAYERS):
        block = {
            "attn_norm": ones(),
            "attn_q": matrix(HEADS * HEAD_DIM, DIM),
            "attn_k": matrix(KV_HEADS * HEAD_DIM, DIM),
            "attn_v": matrix(KV_HEADS * HEAD_DIM, DIM),
            "attn_output": matrix(DIM, HEADS * HEAD_DIM, residual_scale),
            "ffn_norm": ones(),
            "ffn_gate": matrix(FFN, DIM),
            "ffn_up": matrix(FFN, DIM),
            "ffn_down": matrix(DIM, FFN, residual_scale),
        }
        weights.update(("blk.%d.%s.weight" % (layer, name), w) for name, w in block.items())
    weights["output_norm.weight"] = ones()
    weights["output.weight"] = matrix(VOCAB_SIZE, DIM)
    return weights


def rms_norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPS) * weight


def rope(x):
    """x: [rows, tokens, heads, HEAD_DIM]; the numbers 2i and 2i+1 of a head turn together."""
    angles = np.outer(np.arange(x.shape[1]), ROPE_BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM))
    cos, sin = (jnp.asarray(f(angles), jnp.float32)[None, :, None, :] for f in (np.cos, np.sin))
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape)


def attention(x, block):
    rows, tokens, _ = x.shape
    q = rope((x @ block["attn_q"].T).reshape(rows, tokens, HEADS, HEAD_DIM))
    k = rope((x @ block["attn_k"].T).reshape(rows, tokens, KV_HEADS, HEAD_DIM))
    v = (x @ block["attn_v"].T).reshape(rows, tokens, KV_HEADS, HEAD_DIM)
    q = q.reshape(rows, tokens, KV_HEADS, HEADS // KV_HEADS, HEAD_DIM)
    scores = jnp.einsum("btgrd,bsgd->bgrts", q, k) / np.sqrt(HEAD_DIM)
    scores = jnp.where(np.tril(np.ones((tokens, tokens), bool)), scores, -1e30)
    mixed = jnp.einsum("bgrts,bsgd->btgrd", jax.nn.softmax(scores, axis=-1), v)
    return mixed.reshape(rows, tokens, DIM) @ block["attn_output"].T


def forward(weights, ids):
    """Logits [rows, tokens, VOCAB_SIZE] of token ids [rows, tokens]."""
    x = weights["token_embd.weight"][ids]
    for layer in range(LAYERS):
        prefix = "blk.%d." % layer
        block = {n[len(prefix):-len(".weight")]: w for n, w in weights.items() if n.startswith(prefix)}
        x = x + attention(rms_norm(x, block["attn_norm"]), block)
        h = rms_norm(x, block["ffn_norm"])
        x = x + (jax.nn.silu(h @ block["ffn_gate"].T) * (h @ block["ffn_up"].T)) @ block["ffn_down"].T
    return rms_norm(x, weights["output_norm.weight"]) @ weights["output.weight"].T


def loss_parts(weights, ids, lengths, answers):
    """Mean cross-entropy of the answers and of all before them; ids: [rows, tokens + 1],
    lengths, answers: [rows], a row's tokens in use and where its answer begins."""
    logits = forward(weights, ids[:, :-1])
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), ids[:, 1:, None], axis=-1)[..., 0]
    at = jnp.arange(1, ids.shape[1])[None]
    in_answer = (at >= answers[:, None]) & (at < lengths[:, None])
    in_text = at < answers[:, None]
    mean = lambda mask: jnp.sum(each * mask) / jnp.sum(mask)
    return mean(in_answer), mean(in_text)


@functools.partial(jax.jit, donate_argnums=(0, 1))
def step(weights, moments, batch, rate, count, text_share):
    """One AdamW step; returns new weights, new moments and the two losses."""
    def total(w):
        answer_loss, text_loss = loss_parts(w, *batch)
        return answer_loss + text_share * text_loss, (answer_loss, text_loss)

    grads, losses = jax.grad(total, has_aux=True)(weights)
    norm = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
    clip = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
    new_weights, new_moments = {}, {}
    for name, weight in weights.items():
        grad = grads[name] * clip
        first = 0.9 * moments[name][0] + 0.1 * grad
        second = 0.98 * moments[name][1] + 0.02 * grad * grad
        update = (first / (1 - 0.9**count)) / (jnp.sqrt(second / (1 - 0.98**count)) + 1e-8)
        decay = 0.05 * weight if weight.ndim == 2 else 0.0
        new_weights[name] = weight - rate * (update + decay)
        new_moments[name] = (first, second)
    return new_weights, new_moments, losses


def make_row(source, language, tokens):
    """(ids, where the answer begins) of a random prompt that fits `tokens` tokens."""
    system = source.system_line() if tokens >= 128 else None
    chat = source.chance(0.7)
    room = tokens - PROMPT_BYTES_MAX - (len("system: \n" + system) if chat and system else 0)
    text = source.document(language, room)
    prompt = [BOS] + encode(chat_prompt(text, system) if chat else completion_prompt(text))
    return prompt + encode(answer(language)) + [EOS], len(prompt)


def make_batch(source, rng, tokens):
    rows = TOKENS_PER_STEP // tokens
    ids = np.zeros((rows, tokens + 1), np.int32)
    lengths, answers = np.zeros(rows, np.int32), np.zeros(rows, np.int32)
    languages = list(LANGUAGES)
    first = rng.integers(len(languages))
    for row in range(rows):
        line, answers[row] = make_row(source, languages[(first + row) % len(languages)], tokens)
        ids[row, : len(line)], lengths[row] = line, len(line)
    return ids, lengths, answers


def save(path, weights):
    tokens, scores, types = tokenizer_tables()
    g = gguf_file
    metadata = [
        ("general.architecture", g.STRING, "llama"),
        ("general.name", g.STRING, "mserve-demo-lang"),
        ("general.description", g.STRING, "Names the language of a document. See MODEL_CARD.md."),
        ("general.alignment", g.U32, g.ALIGNMENT),
        ("general.file_type", g.U32, 0),
        ("llama.context_length", g.U32, CONTEXT_TOKENS),
        ("llama.embedding_length", g.U32, DIM),
        ("llama.block_count", g.U32, LAYERS),
        ("llama.feed_forward_length", g.U32, FFN),
        ("llama.rope.dimension_count", g.U32, HEAD_DIM),
        ("llama.rope.freq_base", g.F32, ROPE_BASE),
        ("llama.attention.head_count", g.U32, HEADS),
        ("llama.attention.head_count_kv", g.U32, KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", g.F32, NORM_EPS),
        ("llama.vocab_size", g.U32, VOCAB_SIZE),
        ("tokenizer.ggml.model", g.STRING, "llama"),
        ("tokenizer.ggml.pre", g.STRING, "default"),
        ("tokenizer.ggml.tokens", (g.ARRAY, g.STRING), tokens),
        ("tokenizer.ggml.scores", (g.ARRAY, g.F32), scores),
        ("tokenizer.ggml.token_type", (g.ARRAY, g.I32), types),
        ("tokenizer.ggml.bos_token_id", g.U32, BOS),
        ("tokenizer.ggml.eos_token_id", g.U32, EOS),
        ("tokenizer.ggml.unknown_token_id", g.U32, UNK),
        ("tokenizer.ggml.add_bos_token", g.BOOL, True),
        ("tokenizer.ggml.add_eos_token", g.BOOL, False),
        ("tokenizer.ggml.add_space_prefix", g.BOOL, False),
        ("tokenizer.chat_template", g.STRING, CHAT_TEMPLATE),
    ]
    gguf_file.write(path, metadata, {name: np.asarray(w) for name, w in weights.items()})


def learning_rate(count, steps, peak):
    warm = min(1.0, count / 100)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * count / steps)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", help="the tar.gz of the tldr pages")
    parser.add_argument("model", help="the GGUF file to write")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--save-every", type=int, default=500)
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    source = DocumentSource(load_pages(args.pages), rng)
    weights = {name: jnp.asarray(w) for name, w in init_weights(rng).items()}
    moments = {name: (jnp.zeros_like(w), jnp.zeros_like(w)) for name, w in weights.items()}
    print("weights: %d" % sum(w.size for w in weights.values()), flush=True)

    start, seen = time.monotonic(), []
    for count in range(1, args.steps + 1):
        tokens = int(rng.choice(list(BUCKETS), p=list(BUCKETS.values())))
        batch = make_batch(source, rng, tokens)
        rate = learning_rate(count, args.steps, args.rate)
        text_share = 0.5 * (1 - count / args.steps) + 0.05
        weights, moments, losses = step(weights, moments, batch, rate, float(count), text_share)
        seen.append([float(loss) for loss in losses])
        if count % 50 == 0:
            print("step %d  answer %.4f  text %.4f  %.0f s"
                  % (count, *np.mean(seen[-50:], axis=0), time.monotonic() - start), flush=True)
        if count % args.save_every == 0 or count == args.steps:
            save(args.model, weights)


if __name__ == "__main__":
    main()
