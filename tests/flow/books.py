"""books.py: predicts, from the request and the simulated device's prices alone, what each request costs
when requests run one at a time. Knows nothing of mserve's own arithmetic.

  books.py requests COUNT              the lines of a job
  books.py predict LOAD FIXED ROW KV HEAD  <lines of "custom_id|prompt text bytes|max_tokens">
                                       "custom_id|ns" for each, then "overhead|ns" and "held|ns"
"""
import json
import sys


def requests(count):
    for i in range(count):
        prompt = f"{i} {'x' * 1500}"[:1 + 137 * i % 1500]  # no two begin alike: nothing is shared
        yield {"custom_id": str(i), "method": "POST", "url": "/v1/completions",
               "body": {"model": "sim", "prompt": prompt, "max_tokens": 1 + 31 * i % 90}}


def cost(prompt, answer, fixed, row, kv, head):
    """The prompt is read in one step that gives the first token; each further token takes a step."""
    total = fixed + prompt * row + prompt * (prompt + 1) // 2 * kv // 1024 + head
    for done in range(1, answer):
        total += fixed + row + (prompt + done) * kv // 1024 + head
    return total


def main():
    if sys.argv[1] == "requests":
        for line in requests(int(sys.argv[2])):
            print(json.dumps(line))
        return
    load, *prices = map(int, sys.argv[2:7])
    held = load
    for line in requests(int(sys.argv[7])):
        body = line["body"]
        ns = cost(len(body["prompt"]) + int(sys.argv[8]), body["max_tokens"], *prices)
        held += ns
        print(f"{line['custom_id']}|{ns}")
    print(f"overhead|{load}")
    print(f"held|{held}")


main()
