"""lang_format.py: what the demo model reads and writes: its tokens, prompts and answers.

TOKENS, 260 of them, a SentencePiece-type vocabulary that always falls back to bytes
    0 <unk>   1 <s>   2 </s>   3..258 the bytes 0x00..0xFF   259 "\u2581", one space
A text is encoded by turning each space into U+2581 and writing every other character as its UTF-8
bytes. No pair of tokens joins to a third, so there is nothing to merge: llama.cpp's encoder yields
exactly these ids (make_reference.py checks it).

PROMPTS, each after <s>
    chat         [system: ...\n]user: <document>\nassistant:
    completion   <document>\nLanguage:
The answer is one space, the English name of the language, and </s>.
"""

UNK, BOS, EOS, BYTE_0, SPACE = 0, 1, 2, 3, 259
VOCAB_SIZE = 260
CONTEXT_TOKENS = 1024

LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "zh": "Chinese",
    "pt": "Portuguese",
    "it": "Italian",
}

# Programs that take a template at its word add no <s> of their own, so it begins with one.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message['role'] + ': ' + message['content'] + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


def encode(text):
    """Token ids of a text, without <s>."""
    data = text.replace("\u2581", " ").encode("utf-8")
    return [SPACE if byte == 0x20 else BYTE_0 + byte for byte in data]


def decode(ids):
    """The text of token ids; <unk>, <s> and </s> render as nothing, broken UTF-8 as U+FFFD."""
    data = bytes(0x20 if i == SPACE else i - BYTE_0 for i in ids if i >= BYTE_0)
    return data.decode("utf-8", errors="replace")


def chat_prompt(document, system=None):
    head = "system: %s\n" % system if system else ""
    return "%suser: %s\nassistant:" % (head, document)


def completion_prompt(document):
    return "%s\nLanguage:" % document


def answer(language):
    """The text that follows a prompt, for a key of LANGUAGES."""
    return " " + LANGUAGES[language]


def cut_bytes(text, bytes_max):
    """The longest beginning of text that has at most bytes_max bytes and ends between characters."""
    return text.encode("utf-8")[:bytes_max].decode("utf-8", errors="ignore")


def tokenizer_tables():
    """(tokens, scores, types) as GGUF stores them; types: 1 normal, 2 unknown, 3 control, 6 byte."""
    tokens = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)] + ["\u2581"]
    scores = [0.0] * (VOCAB_SIZE - 1) + [-1.0]
    types = [2, 3, 3] + [6] * 256 + [1]
    return tokens, scores, types
