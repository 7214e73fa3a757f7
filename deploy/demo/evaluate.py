#!/usr/bin/env python3
"""evaluate.py: counts how many documents the demo model names the language of.

    evaluate.py model mserve-demo-lang.gguf heldout.jsonl   runs the GGUF file itself, numpy only
    evaluate.py batch heldout.jsonl > batch.jsonl           the same documents for mserve-submit
    evaluate.py results results.jsonl                       counts the output lines of mserve

Documents are lines of make_heldout.py, each cut to --bytes. A result's custom_id says what is right:
one of its parts between hyphens is the language (de-0001, doc-007-de). Right means that the text
generated up to </s>, without the space before it, is the language's name and nothing else. The exit
status is 1 when the total is below --at-least.
"""

import argparse
import collections
import json
import sys

import numpy as np

import gguf_file
from lang_format import (BOS, EOS, LANGUAGES, chat_prompt, completion_prompt, cut_bytes, decode,
                         encode)

MODEL_NAME = "mserve-demo-lang"
ANSWER_TOKENS_MAX = 16


class Model:
    """The Llama forward pass over one sequence, keys and values kept between calls."""

    def __init__(self, path):
        meta, self.weights = gguf_file.read(path)
        self.layers = meta["llama.block_count"]
        self.heads = meta["llama.attention.head_count"]
        self.kv_heads = meta["llama.attention.head_count_kv"]
        self.head_dim = meta["llama.rope.dimension_count"]
        self.eps = meta["llama.attention.layer_norm_rms_epsilon"]
        self.context = meta["llama.context_length"]
        pairs = np.arange(0, self.head_dim, 2) / self.head_dim
        self.frequencies = meta["llama.rope.freq_base"] ** -pairs
        self.reset()

    def reset(self):
        self.position = 0
        empty = np.zeros((0, self.kv_heads, self.head_dim), np.float32)
        self.keys, self.values = [empty] * self.layers, [empty] * self.layers

    def norm(self, x, weight):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * weight

    def rope(self, x):
        """x: [tokens, heads, head_dim], the first token at self.position."""
        angles = np.outer(self.position + np.arange(len(x)), self.frequencies)[:, None, :]
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
        out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
        return out

    def attention(self, x, layer):
        tokens = len(x)
        project = lambda name, heads: (x @ self.block(layer, name).T).reshape(tokens, heads, -1)
        q = self.rope(project("attn_q", self.heads))
        k, v = self.rope(project("attn_k", self.kv_heads)), project("attn_v", self.kv_heads)
        self.keys[layer] = k = np.concatenate([self.keys[layer], k])
        self.values[layer] = v = np.concatenate([self.values[layer], v])

        group = self.heads // self.kv_heads
        k, v = (np.repeat(a, group, axis=1).transpose(1, 0, 2) for a in (k, v))
        scores = q.transpose(1, 0, 2) @ k.transpose(0, 2, 1) / np.sqrt(np.float32(self.head_dim))
        ahead = np.arange(k.shape[1])[None] > self.position + np.arange(tokens)[:, None]
        scores = np.where(ahead, np.float32(-1e30), scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        return mixed.transpose(1, 0, 2).reshape(tokens, -1) @ self.block(layer, "attn_output").T

    def block(self, layer, name):
        return self.weights["blk.%d.%s.weight" % (layer, name)]

    def forward(self, ids):
        """Logits after the last of ids, which follow those of earlier calls."""
        x = self.weights["token_embd.weight"][ids]
        for layer in range(self.layers):
            x = x + self.attention(self.norm(x, self.block(layer, "attn_norm")), layer)
            h = self.norm(x, self.block(layer, "ffn_norm"))
            gate = h @ self.block(layer, "ffn_gate").T
            up = h @ self.block(layer, "ffn_up").T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ self.block(layer, "ffn_down").T
        self.position += len(ids)
        return self.norm(x[-1], self.weights["output_norm.weight"]) @ self.weights["output.weight"].T

    def generate(self, prompt, tokens_max=ANSWER_TOKENS_MAX):
        """Greedy token ids after <s> and the prompt; </s> ends them and is not among them."""
        self.reset()
        ids, out = [BOS] + encode(prompt), []
        if len(ids) + tokens_max > self.context:
            raise ValueError("the prompt has %d tokens, the context %d" % (len(ids), self.context))
        while len(out) < tokens_max:
            best = int(np.argmax(self.forward(ids)))
            if best == EOS:
                break
            out.append(best)
            ids = [best]
        return out


class Count:
    """Right answers per language, and what was said instead."""

    def __init__(self):
        self.seen, self.right = collections.Counter(), collections.Counter()
        self.wrong = collections.defaultdict(collections.Counter)

    def add(self, language, text):
        self.seen[language] += 1
        if text.strip() == LANGUAGES[language]:
            self.right[language] += 1
        else:
            self.wrong[language][text.strip()[:20]] += 1

    def share(self):
        return sum(self.right.values()) / max(1, sum(self.seen.values()))

    def report(self):
        for code in LANGUAGES:
            if self.seen[code]:
                instead = ", ".join("%s %d" % (said or "nothing", number)
                                    for said, number in self.wrong[code].most_common(4))
                print("%-10s %5d of %5d  %6.2f %%  %s" % (
                    LANGUAGES[code], self.right[code], self.seen[code],
                    100 * self.right[code] / self.seen[code], instead and "instead: " + instead))
        print("%-10s %5d of %5d  %6.2f %%" % (
            "total", sum(self.right.values()), sum(self.seen.values()), 100 * self.share()))


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read_documents(args):
    """The lines of make_heldout.py, at most --per-language evenly spread ones of each language."""
    by_language = collections.defaultdict(list)
    for line in read_lines(args.documents):
        by_language[line["language"]].append(line)
    for lines in by_language.values():
        every = max(1, len(lines) // args.per_language) if args.per_language else 1
        for line in lines[::every][: args.per_language or None]:
            yield line["id"], line["language"], cut_bytes(line["text"], args.bytes)


def count_model(args):
    model, count = Model(args.model), Count()
    wrap = chat_prompt if args.form == "chat" else completion_prompt
    for name, language, text in read_documents(args):
        said = decode(model.generate(wrap(text)))
        count.add(language, said)
        if args.show_wrong and said.strip() != LANGUAGES[language]:
            print(name, repr(said), text, sep="\t")
    return count


def write_batch(args):
    for name, _, text in read_documents(args):
        body = {"model": MODEL_NAME, "messages": [{"role": "user", "content": text}],
                "max_tokens": ANSWER_TOKENS_MAX, "temperature": 0}
        line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
        print(json.dumps(line, ensure_ascii=False))


def count_results(args):
    """A line without an answer (an error, a failed request) counts as wrong."""
    count = Count()
    for line in read_lines(args.results):
        codes = [part for part in line["custom_id"].split("-") if part in LANGUAGES]
        if len(codes) != 1:
            raise ValueError("custom_id %r does not name one language" % line["custom_id"])
        body = (line.get("response") or {}).get("body") or {}
        choice = (body.get("choices") or [{}])[0]
        count.add(codes[0], (choice.get("message") or {}).get("content") or choice.get("text") or "")
    return count


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("model", help="run a GGUF file over documents")
    model.add_argument("model")
    model.add_argument("--form", choices=["chat", "completion"], default="chat")
    model.add_argument("--show-wrong", action="store_true")
    batch = commands.add_parser("batch", help="write documents as a batch file")
    for command in (model, batch):
        command.add_argument("documents", help="the output of make_heldout.py")
        command.add_argument("--bytes", type=int, default=400, help="cut documents to this (400)")
        command.add_argument("--per-language", type=int, default=0, help="at most so many (all)")
    results = commands.add_parser("results", help="count the output lines of mserve")
    results.add_argument("results")
    for command in (model, results):
        command.add_argument("--at-least", type=float, default=0.95, help="0..1 (0.95)")
    return parser.parse_args()


def main():
    args = parse_arguments()
    sys.stdout.reconfigure(encoding="utf-8")
    if args.command == "batch":
        return write_batch(args)
    count = count_model(args) if args.command == "model" else count_results(args)
    count.report()
    return 0 if count.share() >= args.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
