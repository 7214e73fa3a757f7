#!/usr/bin/env python3
"""make_heldout.py: paragraphs of Debian's installation guide, as held-out text for the demo model.

    apt-get download installation-guide-amd64
    make_heldout.py installation-guide-amd64_*_all.deb > heldout.jsonl

Takes the package file (unpacked with dpkg-deb) or a folder that holds the languages' folders, such
as /usr/share/doc/installation-guide-amd64. Writes one JSON line per paragraph:
{"id": "de-0001", "language": "de", "text": "..."}. Every <p> of the HTML files counts that has at
least 40 letters (20 for Chinese, whose letters say more). Left out are repeated paragraphs and
those that a translation carries over from the English guide word for word.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from html.parser import HTMLParser

FOLDERS = {"en": "en", "de": "de", "fr": "fr", "es": "es", "zh": "zh_CN", "pt": "pt", "it": "it"}
LETTERS_MIN = {"zh": 20}
LETTERS_MIN_OTHERS = 40


class Paragraphs(HTMLParser):
    """Collects the text of each <p>, without <pre> and <table> inside it."""

    def __init__(self):
        super().__init__()
        self.found, self.parts, self.skipping = [], None, 0

    def handle_starttag(self, tag, attrs):
        if tag == "p":
            self.end_paragraph()
            self.parts = []
        elif tag in ("pre", "table"):
            self.skipping += 1

    def handle_endtag(self, tag):
        if tag == "p":
            self.end_paragraph()
        elif tag in ("pre", "table"):
            self.skipping -= 1

    def handle_data(self, data):
        if self.parts is not None and not self.skipping:
            self.parts.append(data)

    def end_paragraph(self):
        if self.parts is not None:
            self.found.append(" ".join("".join(self.parts).split()))
        self.parts = None


def read_paragraphs(folder):
    """All paragraphs of one language in file order, each once."""
    found = {}
    for path in sorted(folder.glob("*.html")):
        parser = Paragraphs()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        found.update(dict.fromkeys(parser.found))
    return list(found)


def is_long_enough(text, language):
    letters = sum(char.isalpha() for char in text)
    return letters >= LETTERS_MIN.get(language, LETTERS_MIN_OTHERS)


def write_heldout(guide, out):
    english = set(read_paragraphs(guide / FOLDERS["en"]))
    for language, name in FOLDERS.items():
        texts = [t for t in read_paragraphs(guide / name) if is_long_enough(t, language)]
        kept = [t for t in texts if language == "en" or t not in english]
        for number, text in enumerate(kept, 1):
            line = {"id": "%s-%04d" % (language, number), "language": language, "text": text}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
        print(
            "%s: %d paragraphs, %d left out as English" % (language, len(kept), len(texts) - len(kept)),
            file=sys.stderr,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("guide", type=pathlib.Path, help="the .deb, or the folder of the guide")
    guide = parser.parse_args().guide
    sys.stdout.reconfigure(encoding="utf-8")
    if guide.is_dir():
        return write_heldout(guide, sys.stdout)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", str(guide), folder], check=True)
        inside = pathlib.Path(folder, "usr/share/doc/installation-guide-amd64")
        write_heldout(inside, sys.stdout)


if __name__ == "__main__":
    main()
