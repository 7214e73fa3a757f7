#!/usr/bin/env python3
"""Makes batch files of reference prompts, and compares what came back with the reference results.

  goldens.py requests GOLDENS URL        the batch file, on standard output
  goldens.py compare GOLDENS RESULTS     one line a difference; exit status 1 when there is one

GOLDENS is a file of llama.cpp's results: prompt, ids, greedy continuation of at most 64 tokens,
embedding. RESULTS are OpenAI output lines of either endpoint, in any order.
"""
import codecs
import json
import sys

EMBEDDING_TOLERANCE = 1e-4


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def requests(path, url):
    for number, case in enumerate(read(path)):
        if url == "/v1/embeddings":
            body = {"model": "stories", "input": case["prompt"]}
        else:
            body = {"model": "stories", "prompt": case["prompt"], "max_tokens": 64,
                    "temperature": 0, "return_token_ids": True}
        print(json.dumps({"custom_id": f"case-{number}", "method": "POST", "url": url, "body": body}))


def text_of(case):
    if case["greedy_bytes_hex"] is not None:
        # A character that the limit cut is left out, other bytes that are no character are replaced.
        whole = codecs.getincrementaldecoder("utf-8")("replace")
        return whole.decode(bytes.fromhex(case["greedy_bytes_hex"]), final=case["finish"] != "length")
    return case["greedy_text"]


def differences(case, body):
    if body["object"] == "list":
        vector = body["data"][0]["embedding"]
        if len(vector) != len(case["embedding"]):
            yield f"{len(vector)} numbers, not {len(case['embedding'])}"
            return
        far = max(abs(a - b) for a, b in zip(vector, case["embedding"]))
        if far > EMBEDDING_TOLERANCE:
            yield f"the embedding is off by {far}"
        if body["usage"]["prompt_tokens"] != len(case["prompt_token_ids"]):
            yield f"usage says {body['usage']['prompt_tokens']} prompt tokens"
        return
    choice = body["choices"][0]
    ids = choice.get("prompt_token_ids", body.get("prompt_token_ids"))
    if ids != case["prompt_token_ids"]:
        yield f"prompt ids {ids}"
    if choice["text"] != text_of(case):
        yield f"text {choice['text']!r}, not {text_of(case)!r}"
    if choice["finish_reason"] != case["finish"]:
        yield f"finish {choice['finish_reason']}, not {case['finish']}"


def compare(path, results):
    cases = read(path)
    seen = set()
    wrong = 0
    for row in read(results):
        number = int(row["custom_id"].removeprefix("case-"))
        seen.add(number)
        for difference in differences(cases[number], row["response"]["body"]):
            wrong += 1
            print(f"case {number} ({cases[number]['prompt_source']}): {difference}")
    if seen != set(range(len(cases))):
        wrong += 1
        print(f"{len(seen)} of {len(cases)} cases came back")
    return wrong == 0


if __name__ == "__main__":
    if sys.argv[1] == "requests":
        requests(*sys.argv[2:4])
    elif not compare(*sys.argv[2:4]):
        sys.exit(1)
