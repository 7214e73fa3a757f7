"""What the scripts of tests/gpu share: which sources a result stands for, which figures are asked
for, and what a result is.

A result is one JSON object a file, with
    stage     of tests/gpu/run, which names the file
    verdict   one of VERDICTS
    why       one sentence, unless the verdict is `passed`
    sources   sources_hash() of the tree that was run
    module    "cuda" or "cuda-emu"
    gpu, driver, capability    null where there is none
    seconds, at (UTC), figures {name: number}, and whatever the stage has to tell
"""
import glob
import hashlib
import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RESULTS = os.path.join(HERE, "results")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]*)"', re.MULTILINE)
NO_GPU = "not measured: no GPU"

# passed, failed; not measured: there is no GPU here; absent: a tool or library this machine lacks;
# refused: the machine does not allow it; out of time: the stage met its cap.
VERDICTS = ["passed", "failed", "not measured", "absent", "refused", "out of time"]

# What is asked for of an H200 and the 8B shape: name, unit, at least (at most where said), aim.
FIGURES = [
    ("prefill_share", "of the bf16 matrix rate, 32 x 1,024 tokens", 0.70, 0.78),
    ("decode_256_share", "of the roofline, batch 256, 1k context", 0.60, 0.70),
    ("decode_512_share", "of the roofline, batch 512, 1k context", 0.60, 0.70),
    ("attention_1k_ratio", "torch's SDPA time over ours, prefill at 1k", 1.0, 1.0),
    ("attention_8k_ratio", "torch's SDPA time over ours, prefill at 8k", 1.0, 1.0),
    ("job_bf16_share", "of the roofline, 1,024 requests of 1000 in, 1000 out", 0.60, None),
    ("job_bf16_tokens_per_s", "output tokens/s of the same job", 7250, 9500),
    ("job_fp8_share", "of the roofline, the same in FP8", 0.55, None),
    ("job_fp8_tokens_per_s", "output tokens/s of the same job in FP8", 12700, 17744),
    ("transformers_ratio", "over generate_batch, 256 requests of 1000 in, 250 out", 2.0, 3.0),
    ("prefix_ratio", "a group of 1,024 shared tokens over the job without", 2.5, 4.0),
    ("embeddings_ratio", "over sentence-transformers, MiniLM shape, bf16", 3.0, None),
    ("invariance_price", "at most: restricted over unrestricted GEMM time", 1.10, None),
    ("checkpoint_share", "at most: of the time, from counters", 0.01, None),
]


def includes(path):
    """What a file of the tree includes of the tree, with what that includes."""
    seen, todo = set(), [path]
    while todo:
        with open(os.path.join(ROOT, todo.pop()), encoding="utf-8") as file:
            named = set(INCLUDE.findall(file.read()))
        new = {name for name in named - seen if os.path.exists(os.path.join(ROOT, name))}
        seen |= new
        todo += new
    return seen


def sources():
    """The kernels with all that they include, and the host code beside them; no emulation."""
    found = set()
    for pattern in ("*.cu", "*.cuh", "*.c", "*.h"):
        for path in glob.glob(os.path.join(ROOT, "kernels", "cuda", pattern)):
            found.add(os.path.relpath(path, ROOT))
    for path in [path for path in found if path.endswith(".cu")]:
        found |= includes(path)
    return sorted(path for path in found if "/emu/" not in path)


def sources_hash():
    """16 hex digits over names and contents."""
    digest = hashlib.sha256()
    for path in sources():
        with open(os.path.join(ROOT, path), "rb") as file:
            digest.update(f"{path} {hashlib.sha256(file.read()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write(folder, result):
    """Whole or not at all: the run may be cut off at any moment."""
    path = os.path.join(folder, result["stage"] + ".json")
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, sort_keys=False)
        file.write("\n")
    os.replace(path + ".new", path)
    return path
