#!/usr/bin/env python3
"""Makes a batch file of every document in tar archives: corpus.py MODE ARCHIVE...

MODE is `whole` (a document that does not fit the context is to fail) or `truncate`, and is also the
model's name. The custom_id is the name of the file; documents are read in order of name.
"""
import json
import sys
import tarfile


def main(mode, *archives):
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in sorted(tar.getmembers(), key=lambda member: member.name):
                if not member.isfile():
                    continue
                text = tar.extractfile(member).read().decode("utf-8")
                body = {"model": mode, "prompt": text, "max_tokens": 8, "temperature": 0}
                if mode == "truncate":
                    body["truncate_prompt_tokens"] = -1
                print(json.dumps({"custom_id": member.name, "method": "POST",
                                  "url": "/v1/completions", "body": body}))


if __name__ == "__main__":
    main(*sys.argv[1:])
