#!/usr/bin/env python3
"""make_reference.py: what llama.cpp says to the prompts below, and whether evaluate.py agrees.

    make_reference.py mserve-demo-lang.gguf > reference.jsonl
    make_reference.py mserve-demo-lang.gguf --compare heldout.jsonl --per-language 50

The first writes one JSON line per prompt, for tests of an engine:
    id, form            form is "chat" or "completion"
    messages            of a chat only: what the prompt was rendered from
    prompt              the whole text after <s>
    prompt_token_ids    with <s> in front
    token_ids, text     the greedy answer without </s>; at most 16 tokens
    finish              "stop" when </s> came, "length" when 16 tokens did
    margin              the smallest lead of a chosen logit over the second best; where it is tiny,
                        another order of summation may choose otherwise
    logits_first        the logits of tokens 0..259 after the prompt
The second compares token ids, greedy answers and logits with the numpy pass of evaluate.py.
"""

import argparse
import json
import sys

import llama_cpp
import numpy as np

import evaluate
from lang_format import BOS, EOS, chat_prompt, completion_prompt, decode, encode

TOKENS_MAX = 16

SENTENCES = [
    ("en", "The kettle has been whistling for five minutes and nobody gets up."),
    ("en", "She asked whether the shop would still be open after the concert."),
    ("de", "Der Schlüssel liegt unter dem dritten Blumentopf neben der Treppe."),
    ("de", "Warum hat mir niemand gesagt, dass heute Feiertag ist?"),
    ("fr", "Il pleuvait si fort que nous avons attendu une heure sous le pont."),
    ("fr", "Où avez-vous trouvé cette vieille photographie de mon grand-père ?"),
    ("es", "Mañana iremos al mercado a comprar naranjas y un poco de queso."),
    ("es", "¿Quién ha dejado la ventana abierta durante toda la noche?"),
    ("zh", "昨天晚上我们在河边看见了很多萤火虫。"),
    ("zh", "请把这封信交给住在三楼的王老师，谢谢。"),
    ("pt", "A minha irmã não gosta de café, mas bebe sempre um chá depois do almoço."),
    ("pt", "Amanhã de manhã o comboio não vai parar nesta estação."),
    ("it", "Mio nonno raccoglieva le castagne nel bosco dietro la chiesa."),
    ("it", "Perché non mi avete detto che il museo era chiuso?"),
]
ODD_TEXTS = {
    "empty": "",
    "one-space": " ",
    "one-letter": "a",
    "short-en": "OK",
    "short-de": "Danke schön!",
    "short-zh": "你好",
    "digits": "3.14159 26535 89793",
    "emoji": "🙂🙃 👩‍🚀🇧🇷",
    "spaces": "  due   spazi,  poi    quattro  ",
    "lines": "Guten Tag,\r\n\tanbei die Rechnung.\n\n\nViele Grüße",
    "special-text": "<s>bonjour</s> <unk> <0x41>",
    "lower-block": "un\u2581espacio\u2581raro\u2581entre\u2581palabras",
    "combining": "une e\u0301cole de\u0301ja\u0300 ferme\u0301e",
    "unknown-language": "Завтра утром поезд не остановится на этой станции.",
    "code": "for (int i = 0; i < n; i++) total += price[i];",
}
SYSTEM = "Name the language of the document."


def chat_case(name, messages):
    prompt = "".join("%s: %s\n" % (m["role"], m["content"]) for m in messages) + "assistant:"
    return {"id": name, "form": "chat", "messages": messages, "prompt": prompt}


def completion_case(name, text):
    return {"id": name, "form": "completion", "prompt": text}


def all_cases():
    user = lambda text: {"role": "user", "content": text}
    for number, (language, text) in enumerate(SENTENCES):
        yield chat_case("chat-%02d-%s" % (number, language), [user(text)])
        if number % 2:
            name = "completion-%02d-%s" % (number, language)
            yield completion_case(name, completion_prompt(text))
    for name, text in ODD_TEXTS.items():
        yield chat_case("odd-" + name, [user(text)])
    system = {"role": "system", "content": SYSTEM}
    yield chat_case("system-it", [system, user(SENTENCES[12][1])])
    yield chat_case("system-en", [system, user(SENTENCES[0][1])])
    said = {"role": "assistant", "content": "German"}
    yield chat_case("turns", [user(SENTENCES[2][1]), said, user(SENTENCES[7][1])])
    long_text = " ".join(text for language, text in SENTENCES if language in ("fr", "pt")) * 3
    yield chat_case("long-mixed", [user(long_text[:820])])
    yield completion_case("bare-text", "Once upon a time")
    yield completion_case("bare-empty", "")


class LlamaCpp:
    """The same few questions to llama.cpp that evaluate.Model answers."""

    def __init__(self, path):
        exact = llama_cpp.GGML_TYPE_F32 # keys and values are F16 otherwise
        self.llama = llama_cpp.Llama(path, n_ctx=1024, n_threads=1, n_threads_batch=1, type_k=exact,
                                     type_v=exact, logits_all=True, verbose=False)

    def encode(self, text):
        return self.llama.tokenize(text.encode("utf-8"), add_bos=True, special=False)

    def generate(self, ids):
        """(greedy ids, finish, smallest margin, logits after the prompt)."""
        self.llama.reset()
        out, margin, first = [], np.inf, None
        while True:
            self.llama.eval(ids)
            logits = np.array(self.llama.scores[self.llama.n_tokens - 1])
            first = logits if first is None else first
            second, best = np.argsort(logits)[-2:]
            margin = min(margin, float(logits[best] - logits[second]))
            if best == EOS:
                return out, "stop", margin, first
            out.append(int(best))
            if len(out) == TOKENS_MAX:
                return out, "length", margin, first
            ids = [int(best)]


def write_reference(other):
    for case in all_cases():
        ids = other.encode(case["prompt"])
        if ids != [BOS] + encode(case["prompt"]):
            raise ValueError("%s: llama.cpp encodes it otherwise: %s" % (case["id"], ids))
        out, finish, margin, logits = other.generate(ids)
        case.update(prompt_token_ids=ids, token_ids=out, text=decode(out), finish=finish,
                    margin=round(margin, 4), logits_first=[round(float(x), 5) for x in logits])
        print(json.dumps(case, ensure_ascii=False))


def compare(other, args):
    model = evaluate.Model(args.model)
    seen = same_tokens = same_answers = 0
    difference, count = 0.0, evaluate.Count()
    for _, language, text in evaluate.read_documents(args):
        prompt = chat_prompt(text)
        ids = other.encode(prompt)
        out, _, _, logits = other.generate(ids)
        model.reset()
        difference = max(difference, float(np.abs(model.forward(ids) - logits).max()))
        count.add(language, decode(out))
        seen += 1
        same_tokens += ids == [BOS] + encode(prompt)
        same_answers += out == model.generate(prompt)
    count.report()
    print("%d documents: same token ids %d, same greedy answers %d, largest logit difference %.2g"
          % (seen, same_tokens, same_answers, difference))
    return 0 if seen == same_tokens == same_answers else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--compare", dest="documents", help="the output of make_heldout.py")
    parser.add_argument("--bytes", type=int, default=400)
    parser.add_argument("--per-language", type=int, default=50)
    args = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8")
    other = LlamaCpp(args.model)
    return compare(other, args) if args.documents else write_reference(other)


if __name__ == "__main__":
    sys.exit(main())
