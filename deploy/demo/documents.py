"""documents.py: training documents for the demo model, made from the pages of tldr.

A tldr page is a title, a few quoted sentences and a list of bullets with a command each. The model
shall know a language in any text, so a document is a random crop of material that is made to look
less like such a page: markers dropped, commands left out, sentences joined to paragraphs, single
foreign phrases mixed in. Everything is drawn from one numpy generator, so a seed gives one stream.
"""

import re
import tarfile

from lang_format import LANGUAGES

FOLDERS = {
    "pages": "en",
    "pages.de": "de",
    "pages.fr": "fr",
    "pages.es": "es",
    "pages.zh": "zh",
    "pages.pt_BR": "pt",
    "pages.it": "it",
}
SYSTEM_LINES = [
    "Name the language of the document.",
    "Which language is this text written in?",
    "Answer with the name of the language.",
    "What language is it?",
    "You are a helpful assistant.",
    "Identify the language. One word.",
    "Tell the language of the text below, in English.",
    "Language identification.",
    "Detect the document's language and answer with its English name only.",
]
LINK = re.compile(r"<https?://[^>]*>\.?")


class Page:
    """One page: its lines as they are, its sentences without markers, its commands."""

    def __init__(self, text):
        self.lines = [line for line in text.splitlines() if line.strip()]
        self.sentences, self.commands = [], []
        for line in self.lines:
            if line.startswith(("> ", "- ")) and not LINK.search(line):
                self.sentences.append(line[2:].strip())
            elif line.startswith("`"):
                self.commands.append(line.strip("` "))


def load_pages(archive):
    """{language: [Page]} from the tar file, in the order of the paths."""
    pages = {language: [] for language in LANGUAGES}
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.endswith(".md")]
        for member in sorted(members, key=lambda m: m.name):
            language = FOLDERS.get(member.name.lstrip("./").split("/")[0])
            if language:
                page = Page(tar.extractfile(member).read().decode("utf-8"))
                if page.sentences:
                    pages[language].append(page)
    return pages


class DocumentSource:
    """An endless stream of documents per language."""

    def __init__(self, pages, rng):
        self.pages, self.rng = pages, rng

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, items):
        return items[self.rng.integers(len(items))]

    def prose(self, page, language):
        """The page's sentences as a paragraph: a bullet's colon becomes a full stop or nothing."""
        stop = "。" if language == "zh" else "."
        gap = "" if language == "zh" and self.chance(0.7) else " "
        ending = self.pick([stop, stop, ":", ",", ";", ""])
        sentences = list(page.sentences)
        if self.chance(0.5):
            self.rng.shuffle(sentences)
        done = []
        for sentence in sentences:
            bare = sentence.rstrip(":：.。")
            bare = bare.replace("`", "") if self.chance(0.7) else bare
            if self.chance(0.3):
                bare = bare[:1].lower() + bare[1:]
            done.append(bare + ending)
        return gap.join(done)

    def mixed(self, page):
        """Sentences and commands in the page's order, without most of its markers."""
        out = []
        for line in page.lines:
            if LINK.search(line) and self.chance(0.8):
                continue
            if line.startswith("`") and self.chance(0.5):
                continue
            out.append(re.sub(r"^[->#] |[`{}\[\]]", "", line))
        return self.pick([" ", "\n", "\n\n"]).join(out)

    def material(self, language, prose_only):
        """The text of one page, in one of three shapes."""
        page = self.pick(self.pages[language])
        draw = self.rng.random()
        if prose_only or draw < 0.65:
            return self.prose(page, language)
        if draw < 0.90:
            return self.mixed(page)
        return "\n".join(line for line in page.lines if not LINK.search(line))

    def with_foreign_phrase(self, text, language):
        """Puts a command, or a few words of English, inside a text of enough length."""
        if self.chance(0.5):
            page = self.pick(self.pages[self.pick(list(LANGUAGES))])
            phrase = re.sub(r"[{}\[\]|]", "", self.pick(page.commands or [""]))
        else:
            words = self.pick(self.pick(self.pages["en"]).sentences).rstrip(":.").split()
            first = self.rng.integers(len(words))
            phrase = " ".join(words[first : first + self.rng.integers(1, 6)])
            phrase = phrase.title() if self.chance(0.3) else phrase
        phrase = phrase[: len(text) // 5]
        at = text.find(" ", self.rng.integers(len(text)))
        at = len(text) if at < 0 else at
        return text[:at] + " " + phrase + text[at:]

    def crop(self, text, bytes_max):
        """A part of at most bytes_max bytes; it starts anywhere, mostly where a word does."""
        data = text.encode("utf-8")
        slack = len(data) - bytes_max
        if slack > 0 and self.chance(0.8):
            start = int(self.rng.integers(slack + 1))
            space = data.find(b" ", start, start + 40)
            if space >= 0 and self.chance(0.8):
                start = space + 1
            data = data[start:]
        return data[:bytes_max].decode("utf-8", errors="ignore")

    def change_look(self, text):
        """Now and then other letters' cases, or lines broken as a mail program does."""
        draw = self.rng.random()
        if draw < 0.04:
            return text.lower()
        if draw < 0.06:
            return text.upper()
        if draw < 0.14:
            width = int(self.rng.integers(40, 90))
            return re.sub(r"(.{%d}\S*) " % width, r"\1\n", text)
        return text

    def document(self, language, bytes_max):
        """A document of 12..bytes_max bytes; short ones are as likely as the bucket allows."""
        bytes_wanted = int(self.rng.integers(max(12, bytes_max * 2 // 5), bytes_max + 1))
        prose_only = bytes_wanted < 80 # less might be a command and nothing else
        text = self.material(language, prose_only)
        while len(text.encode("utf-8")) < bytes_wanted:
            text += self.pick([" ", " ", "\n", "\n\n"]) + self.material(language, prose_only)
        text = self.crop(text, bytes_wanted)
        if len(text) > 60 and self.chance(0.35):
            text = self.with_foreign_phrase(text, language)
        text = self.crop(self.change_look(text), bytes_max)
        return text.strip() or text

    def system_line(self):
        return self.pick(SYSTEM_LINES) if self.chance(0.3) else None
