#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/text/data/tokenizers: small tokenizers of four families and the ids that the reference gives.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3
    python scripts/golden/make_tokenizers.py [--out FOLDER] [--seed 5] [--variants 250]

The tokenizers are trained on sentences composed below. The texts are not stored: the test composes them
from strings.json with the same generator (splitmix64). Of the ids, 32 bits of an FNV-1a hash are stored.
"@charsmap" in a file stands for the map in t5.model.
"""
import argparse
import base64
import io
import json
import os
import struct
import sys

import sentencepiece
import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPACE = "\u2581"

SUBJECTS = "a red circle;the small boat;two children;an old lighthouse keeper;The quick brown fox;ein kleiner Hund;" \
           "une jeune femme;el gato negro;Красный круг;маленькая лодка;一只小猫;赤い丸;파란 사각형;دائرة حمراء;एक छोटा लड़का".split(";")
VERBS = "moves to the right over;jumps across;slowly turns above;is dancing under;can't see;läuft durch;traverse;" \
        "salta sobre;движется над;在跑过;の上を動く;위로 움직인다;تتحرك فوق;चलता है".split(";")
PLACES = "green grass;the stormy sea at night;3 blue squares;a snow-covered mountain;the café's garden;den Wald;" \
         "la forêt enchantée;la montaña;синим морем;绿色的草地;青い背景;초록 잔디;البحر الأزرق;पहाड़ के पास".split(";")
ENDINGS = ". ;! ;? ;, slowly. ;: 4K, 60fps. ;; then again.\n;… ;。;؟ ;।\n".split(";")

SYLLABLES = "ka lo mi tru ben sha ing er ous bri zen ta qui pla do vir na sto fle gra mo wen ти ра но ле ша кор 山 水 火 木 花 て に を さ".split()

WORDS = "a the cat runs over blue sky camera zoom-in 1080p 24fps don't We'll I'VE it's they're HDR x2 2023-11-05 3.14 " \
        "naïve Ångström ﬁne ﬂow ½ ² ٣٤ Ⅳ ①②③ ｆｕｌｌ ＡＢＣ ǅ ß ẞ ſ's 'ſ İstanbul ıŋ ЖЁЛТЫЙ Ελλάς ΣΑΣ ვეფხი հայերեն עברית سلام हिन्दी " \
        "বাংলা ไทยแลนด์ 中文字符 日本語テキスト 한국어 각 각 ㈱ ㌔ ﷺ ᄀᄀᄀ".split()
MARKS = ["e\u0301", "o\u0308\u0304", "a\u0323\u0302", "n\u0303\u0303\u0303", "i\u0307\u0323", "\u0915\u094d\u0937", "\u0e33", "\u0301",
         "\u200d", "\u200c", "\ufe0f", "\u20dd", "Z\u0351\u036b\u0343\u036a\u0302", "\u1100\u1161\u11a8", "\u0e01\u0e34\u0e4c", "\u00e9\u0301"]
EMOJI = ["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466", "\U0001F3F3\ufe0f\u200d\U0001F308", "\U0001F1E9\U0001F1EA\U0001F1EB",
         "\U0001F44D\U0001F3FD", "1\ufe0f\u20e3", "\u2764\ufe0f", "\U0001F9D1\U0001F3FB\u200d\U0001F680", "\U0001F1FA"]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1b", "\x1c", "\x1f", "\x7f", "\x80", "\x85", "\x9f",
            "\u00a0", "\u00ad", "\u034f", "\u061c", "\u1680", "\u180e", "\u2002", "\u2009", "\u200b", "\u200e", "\u2028", "\u2029", "\u202e",
            "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\ufffc", "\ufffd", "\uffff", "\ue000", "\U000f0000", "\U0010ffff"]
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>", "<extra_id_0>", "<extra_id_7>", "<extra_id_", "<|endoftext|>", "<|startoftext|>", "<|STARTOFTEXT|>",
           "<|im_start|>", "<|im_end|>", "<|im_end", "<tool_call>", "</tool_call>", "<|user|>", "<|end|>", "<image>", "[MASK]", "[mask]", "Token", "token",
           "<0x41>", "<0xFF>", "\u2581", "\u2581\u2581the", "</w>", "the</w>", "\u0120a", "##ing", "<|", "|>", "<", ">"]
PUNCTUATION = [".", ",", "!!!", "...", "?!", "--", "\u2014", "'", "\u2019s", "\u201cquote\u201d", "(x)", "[y]", "{z}", "#tag", "@user", "$9.99", "50%", "a/b\\c",
               "_under_score_", "~`^", "=>", "http://a.b/c?d=e&f", "a@b.co", "\u00bf", "\u3001", "\uff01", "\u0964"]
SPACES = [" ", " ", " ", "  ", "   ", " \t ", "\n\n", " \n", "\u00a0 "]
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x250, 0x36f), (0x370, 0x52f), (0x530, 0x6ff), (0x900, 0xdff), (0xe00, 0x10ff), (0x1100, 0x11ff),
          (0x1ab0, 0x1aff), (0x1e00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x218f), (0x2190, 0x2bff), (0x2e80, 0x33ff), (0x4e00, 0x4fff), (0xa640, 0xabff),
          (0xac00, 0xacff), (0xf900, 0xfdff), (0xfe00, 0xffef), (0x10000, 0x107ff), (0x11000, 0x114ff), (0x1d400, 0x1d7ff), (0x1f000, 0x1faff), (0x20000, 0x200ff)]


class Random:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def choice(self, items):
        return items[self.below(len(items))]


def compose(spec):
    """The texts of strings.json; the test has the same function."""
    random = Random(spec["seed"])
    fragments, ranges = spec["fragments"], spec["ranges"]
    texts = []
    for _ in range(spec["count"]):
        count = random.below(8) if random.below(100) < 80 else random.below(40)
        text = ""
        for _ in range(count):
            kind = random.below(100)
            if kind < 15:
                low, high = random.choice(ranges)
                text += chr(low + random.below(high - low + 1))
                continue
            if 15 <= kind < 55:
                text += " "
            text += random.choice(fragments) * (1 if kind < 95 else 1 + random.below(4))
        texts.append(text)
    return texts


def sentences(count, seed):
    random = Random(seed)
    lines = []
    for _ in range(count):
        line = random.choice(SUBJECTS) + " " + random.choice(VERBS) + " " + random.choice(PLACES) + random.choice(ENDINGS)
        if random.below(4) == 0:
            line += random.choice(WORDS) + " " + random.choice(WORDS)
        for _ in range(random.below(4)):
            line += " " + "".join(random.choice(SYLLABLES) for _ in range(1 + random.below(4)))
        lines.append(line.strip())
    return lines


def fnv1a(ids):
    h = 0xCBF29CE484222325
    for value in ids:
        for byte in struct.pack("<I", value):
            h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return (h ^ (h >> 32)) & 0xFFFFFFFF


def added(content, **flags):
    token = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    token.update(flags)
    return token


def train_sentencepiece(lines, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, num_threads=1, minloglevel=2,
                                             hard_vocab_limit=False, **options)
    return out.getvalue()


def model_fields(blob):
    """(number, value) of a protobuf message; just what the models need."""
    def varint(i):
        value = shift = 0
        while True:
            byte = blob[i]
            value |= (byte & 127) << shift
            i, shift = i + 1, shift + 7
            if byte < 128:
                return value, i
    i, fields = 0, []
    while i < len(blob):
        tag, i = varint(i)
        if tag & 7 == 0:
            value, i = varint(i)
        elif tag & 7 == 5:
            value, i = struct.unpack("<f", blob[i:i + 4])[0], i + 4
        elif tag & 7 == 1:
            value, i = blob[i:i + 8], i + 8
        else:
            length, i = varint(i)
            value, i = blob[i:i + length], i + length
        fields.append((tag >> 3, value))
    return fields


def pieces_of(blob):
    pieces = []
    for number, value in model_fields(blob):
        if number == 1:
            piece = dict(model_fields(value))
            pieces.append((piece[1].decode(), piece.get(2, 0.0)))
    return pieces


def charsmap_of(blob):
    rules = next(value for number, value in model_fields(blob) if number == 3)
    return base64.b64encode(dict(model_fields(rules))[2]).decode()


def merges_of(pieces):
    """Merges of a SentencePiece BPE model: every way to put a piece together, best piece first."""
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                merges.append((-score, ids[left], ids[right], [left, right]))
    return [entry[3] for entry in sorted(merges)]


def template(before, after):
    def token(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}
    body = [token(name) for name, _ in before] + [{"Sequence": {"id": "A", "type_id": 0}}] + [token(name) for name, _ in after]
    return {"type": "TemplateProcessing", "single": body, "pair": body + [{"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in before + after}}


def file_of(**parts):
    base = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None}
    base.update(parts)
    return base


def with_ids(data):
    """The same file with the ids that the library gives to the added tokens."""
    loaded = Tokenizer.from_str(json.dumps({**data, "added_tokens": [{"id": 0, **t} for t in data["added_tokens"]]}))
    return {**data, "added_tokens": [{"id": loaded.token_to_id(t["content"]), **t} for t in data["added_tokens"]]}


def make_t5(lines):
    blob = train_sentencepiece(lines, vocab_size=1100, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                               character_coverage=0.998)
    pieces = pieces_of(blob)
    vocab = [[piece, score] for piece, score in pieces] + [[f"<extra_id_{i}>", 0.0] for i in range(99, -1, -1)]
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}
    data = file_of(
        added_tokens=[added("<pad>"), added("</s>"), added("<unk>")] + [added(f"<extra_id_{i}>") for i in range(99, -1, -1)],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "Precompiled", "precompiled_charsmap": charsmap_of(blob)},
            {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE}]},
        pre_tokenizer=metaspace, decoder=metaspace, post_processor=template([], [("</s>", 1)]),
        model={"type": "Unigram", "unk_id": 2, "vocab": vocab, "byte_fallback": False})
    return with_ids(data), blob


def make_llama(lines):
    blob = train_sentencepiece(lines, vocab_size=1300, model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                               remove_extra_whitespaces=False, character_coverage=0.99, allow_whitespace_only_pieces=True)
    pieces = pieces_of(blob)
    tokens = [added("<unk>"), added("<s>"), added("</s>"), added("<|endoftext|>"), added("<|user|>", rstrip=True),
              added("<|end|>", rstrip=True), added("<image>")]
    data = file_of(
        added_tokens=tokens,
        normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE},
                                                        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]},
        decoder={"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        post_processor=template([("<s>", 1)], []),
        model={"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
               "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": {p: i for i, (p, _) in enumerate(pieces)},
               "merges": [" ".join(pair) for pair in merges_of(pieces)]})
    return with_ids(data), blob


QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train_byte_level(lines, normalizer, split, vocab_size, suffix=None):
    ending = {"end_of_word_suffix": suffix} if suffix else {}
    tokenizer = Tokenizer(models.BPE(**ending))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                  **ending)
    tokenizer.train_from_iterator(lines, trainer)
    return json.loads(tokenizer.to_str())["model"]


def make_qwen2(lines):
    split = pre_tokenizers.Split(Regex(QWEN2), "isolated")
    model = train_byte_level(lines, normalizers.NFC(), split, 1500)
    tokens = [added(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] + \
             [added(t, special=False) for t in ("<tool_call>", "</tool_call>")]
    return with_ids(file_of(
        added_tokens=tokens, normalizer={"type": "NFC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
        post_processor={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        decoder={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}, model=model))


def make_clip(lines):
    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(CLIP), "removed", invert=True)
    model = train_byte_level(lines, normalizer, split, 1400, "</w>")
    # Every byte also occurs as the end of a word.
    for symbol in sorted(pre_tokenizers.ByteLevel.alphabet()):
        model["vocab"].setdefault(symbol + "</w>", len(model["vocab"]))
    start = len(model["vocab"])
    model["vocab"].update({"<|startoftext|>": start, "<|endoftext|>": start + 1})
    model["unk_token"] = "<|endoftext|>"
    return with_ids(file_of(
        added_tokens=[added("<|startoftext|>", normalized=True), added("<|endoftext|>")],
        normalizer={"type": "Sequence", "normalizers": [
            {"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": CLIP}, "behavior": "Removed", "invert": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        post_processor={"type": "RobertaProcessing", "sep": ["<|endoftext|>", start + 1], "cls": ["<|startoftext|>", start],
                        "trim_offsets": False, "add_prefix_space": False},
        decoder={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, model=model))


# ---- variants: random pipelines over small models ----

REGEXES = [r"\s+", r"\p{N}", r"\w+", r"[^\W\d_]+", r" ?\p{L}+", r"\b", r"(?<=[a-z])(?=[A-Z])", r"[[:punct:]]", r"\d{1,3}", r"(?i)the",
           r"\p{Han}|\p{Hiragana}", r"[^\s\p{L}\p{N}]+", r".", r"(?m).+", r"^.", r"$", r"x*", r"\h+", r"[a-c&&b-z]", r"\p{^L}+", r"\P{M}\p{M}*",
           r"(?:e|é)+?", r"[\r\n]+|\s+(?!\S)", QWEN2, CLIP, r"(a|b)\1", r"[\x{61}-\x{7a}]{2}", r"\S+?\b", r"[[:alpha:][:digit:]]+", r"{,2}a", r"\R"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def random_pattern(random):
    if random.below(2):
        return {"Regex": random.choice(REGEXES)}
    return {"String": random.choice([" ", SPACE, "a", "the", "..", "'", "-", "\n", "é", "e\u0301", ""])}


def random_normalizer(random, charsmap, depth=0):
    kind = random.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Replace", "Prepend", "Precompiled", "Nmt",
                          "Sequence", "Sequence", "Sequence"] if depth == 0 else
                         ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Replace", "Prepend", "Precompiled", "Nmt"])
    if kind == "Sequence":
        return {"type": kind, "normalizers": [random_normalizer(random, charsmap, 1) for _ in range(1 + random.below(4))]}
    if kind == "Strip":
        return {"type": kind, "strip_left": bool(random.below(2)), "strip_right": bool(random.below(2))}
    if kind == "Replace":
        return {"type": kind, "pattern": random_pattern(random), "content": random.choice(["", " ", SPACE, "x", "ab"])}
    if kind == "Prepend":
        return {"type": kind, "prepend": random.choice([SPACE, " ", "xy", "\u00e9"])}
    if kind == "Precompiled":
        return {"type": kind, "precompiled_charsmap": "@charsmap"}
    return {"type": kind}


def random_pre_tokenizer(random, depth=0):
    kind = random.choice(["Split", "Split", "ByteLevel", "Metaspace", "Metaspace", "WhitespaceSplit", "Whitespace", "Digits", "Punctuation"] +
                         (["Sequence"] * 4 if depth == 0 else []))
    if kind == "Sequence":
        return {"type": kind, "pretokenizers": [random_pre_tokenizer(random, 1) for _ in range(1 + random.below(3))]}
    if kind == "Split":
        return {"type": kind, "pattern": random_pattern(random), "behavior": random.choice(BEHAVIORS), "invert": bool(random.below(2))}
    if kind == "ByteLevel":
        return {"type": kind, "add_prefix_space": bool(random.below(2)), "trim_offsets": True, "use_regex": bool(random.below(2))}
    if kind == "Metaspace":
        if random.below(4) == 0:
            return {"type": kind, "replacement": SPACE, "add_prefix_space": True, "str_rep": SPACE}
        return {"type": kind, "replacement": random.choice([SPACE, SPACE, "_"]), "prepend_scheme": random.choice(["always", "first", "first", "never"]),
                "split": bool(random.below(2))}
    if kind == "Digits":
        return {"type": kind, "individual_digits": bool(random.below(2))}
    if kind == "Punctuation":
        return {"type": kind, "behavior": random.choice(BEHAVIORS)}
    return {"type": kind}


def random_post_processor(random, size):
    def token():
        return (random.choice(["[A1]", "[B1]", "[C1]"]), random.below(size))
    kind = random.choice([None, "Template", "Roberta", "Bert", "ByteLevel", "Sequence"])
    if kind == "Template":
        return template([token()] * random.below(2), [token()] * random.below(3))
    if kind in ("Roberta", "Bert"):
        sep, cls = token(), token()
        return {"type": kind + "Processing", "sep": list(sep), "cls": list(cls), **({"trim_offsets": True, "add_prefix_space": True} if kind == "Roberta" else {})}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    if kind == "ByteLevel":
        return byte_level
    if kind == "Sequence":
        return {"type": kind, "processors": [byte_level, template([token()], [])]}
    return None


def random_decoder(random):
    choices = [None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}, {"type": "Fuse"}, {"type": "ByteFallback"},
               {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": random.choice(["always", "first", "never"]), "split": True},
               {"type": "Replace", "pattern": random_pattern(random), "content": random.choice(["", " ", "-"])},
               {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                 {"type": "Strip", "content": " ", "start": random.below(3), "stop": random.below(2)}]}]
    return random.choice(choices)


def random_added(random):
    tokens = []
    for content in ["<s>", "</s>", "Token", "[MASK]", "the", " a", "<|end|>", "é", "1", "ﬁne", "blue sky"]:
        if random.below(2):
            tokens.append(added(content, single_word=not random.below(3), lstrip=not random.below(3), rstrip=not random.below(3),
                                normalized=bool(random.below(2)), special=bool(random.below(2))))
    return tokens


def small_models(lines):
    """Models of about 300 entries that the variants share; the flags are set by each variant."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    unigram = pieces_of(train_sentencepiece(lines, vocab_size=420, model_type="unigram", normalization_rule_name="identity", character_coverage=0.98,
                                            bos_id=-1, eos_id=-1))
    bpe = pieces_of(train_sentencepiece(lines, vocab_size=420, model_type="bpe", normalization_rule_name="identity", character_coverage=0.98,
                                        bos_id=-1, eos_id=-1))
    byte_level = train_byte_level(lines, normalizers.NFC(), pre_tokenizers.Split(Regex(QWEN2), "isolated"), 420)
    suffix = train_byte_level(lines, normalizers.Lowercase(), pre_tokenizers.Split(Regex(CLIP), "removed", invert=True), 420, "</w>")
    return {
        "unigram": {"type": "Unigram", "unk_id": 0, "vocab": [[p, round(s, 5)] for p, s in unigram] + [[b, 0.0] for b in bytes_]},
        "bpe": {"type": "BPE", "vocab": {p: i for i, p in enumerate([p for p, _ in bpe] + bytes_)}, "merges": merges_of(bpe)},
        "byte_level": {"type": "BPE", "vocab": byte_level["vocab"], "merges": byte_level["merges"]},
        "suffix": {"type": "BPE", "vocab": suffix["vocab"], "merges": suffix["merges"], "end_of_word_suffix": "</w>"}}


def random_model(random, name):
    if name == "unigram":
        return {"byte_fallback": bool(random.below(2))}
    flags = {"dropout": None, "fuse_unk": bool(random.below(2)), "byte_fallback": bool(random.below(2)), "ignore_merges": bool(random.below(2))}
    if name == "bpe":
        flags["unk_token"] = random.choice(["<unk>", "<unk>", None])
    return flags


def ambiguous(tokenizer, tokens):
    """Whether two added tokens are looked for as the same string, or one as the empty string."""
    contents = [t["content"] for t in tokens if t["normalized"]]
    if tokenizer.normalizer:
        contents = [tokenizer.normalizer.normalize_str(content) for content in contents]
    return "" in contents or len(set(contents)) < len(contents)


def make_variants(lines, texts, charsmap, count, seed):
    random = Random(seed)
    bases = small_models(lines)
    variants = []
    attempts = 0
    while len(variants) < count:
        attempts += 1
        base = random.choice(sorted(bases))
        parts = {"normalizer": None if random.below(4) == 0 else random_normalizer(random, charsmap),
                 "pre_tokenizer": None if random.below(6) == 0 else random_pre_tokenizer(random),
                 "post_processor": random_post_processor(random, len(bases[base]["vocab"])), "decoder": random_decoder(random),
                 "added_tokens": random_added(random)}
        flags = random_model(random, base)
        data = file_of(**parts, model={**bases[base], **flags})
        text = json.dumps({**data, "added_tokens": [{"id": 0, **t} for t in parts["added_tokens"]]}).replace("@charsmap", charsmap)
        first = random.below(len(texts) - 40)
        try:
            tokenizer = Tokenizer.from_str(text)
            if ambiguous(tokenizer, parts["added_tokens"]):
                continue
            hashes = []
            for string in texts[first:first + 40]:
                ids = tokenizer.encode(string).ids
                hashes.append(fnv1a(ids + list(tokenizer.decode(ids, skip_special_tokens=True).encode())))
        except BaseException as error:  # the library panics on some combinations
            if isinstance(error, KeyboardInterrupt):
                raise
            continue
        parts["added_tokens"] = [{"id": tokenizer.token_to_id(t["content"]), **t} for t in parts["added_tokens"]]
        variants.append({"base": base, "flags": flags, "first": first, "hashes": hashes, **parts})
    print(f"variants: {count} of {attempts} pipelines", file=sys.stderr)
    return {"bases": bases, "variants": variants}


def make_models(lines, texts, folder):
    """SentencePiece models with other flags: files and hashes of the ids of the first 400 texts."""
    options = {
        "unigram_bytes": dict(model_type="unigram", byte_fallback=True, vocab_size=700, character_coverage=0.98, normalization_rule_name="identity"),
        "unigram_suffix": dict(model_type="unigram", vocab_size=500, treat_whitespace_as_suffix=True, normalization_rule_name="identity"),
        "unigram_user": dict(model_type="unigram", vocab_size=500, user_defined_symbols=["<|user|>", "the", "  ", "<", "<|"], add_dummy_prefix=False,
                             normalization_rule_name="identity"),
        "bpe_user": dict(model_type="bpe", vocab_size=600, user_defined_symbols=["<|user|>", "the", "  ", "\n"], remove_extra_whitespaces=False,
                         normalization_rule_name="identity", control_symbols=["<ctl>"]),
        "bpe_digits": dict(model_type="bpe", vocab_size=700, byte_fallback=True, split_digits=True, add_dummy_prefix=False, normalization_rule_name="identity",
                           character_coverage=0.98)}
    result = {}
    for name, option in options.items():
        blob = train_sentencepiece(lines, **option)
        with open(os.path.join(folder, name + ".model"), "wb") as out:
            out.write(blob)
        processor = sentencepiece.SentencePieceProcessor(model_proto=blob)
        hashes = []
        for text in texts[:400]:
            ids = processor.encode(text)
            hashes.append(fnv1a(ids + list(processor.decode(ids).encode())))
        result[name] = hashes
    return result


def write_json(path, data):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(data, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")


def write_hashes(path, values):
    with open(path, "wb") as out:
        out.write(struct.pack(f"<{len(values)}I", *values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join(os.path.dirname(__file__), "../../tests/text/data/tokenizers"))
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--variants", type=int, default=250)
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)

    spec = {"seed": arguments.seed, "count": arguments.count, "versions": f"tokenizers {tokenizers.__version__}, sentencepiece {sentencepiece.__version__}",
            "fragments": WORDS + MARKS + EMOJI + CONTROLS + SPECIAL + PUNCTUATION + SPACES + sentences(60, 99), "ranges": RANGES}
    write_json(os.path.join(arguments.out, "strings.json"), spec)
    texts = compose(spec)
    lines = sentences(3000, arguments.seed)

    t5, t5_model = make_t5(lines)
    llama, llama_model = make_llama(lines)
    for name, data in {"t5": t5, "llama": llama, "qwen2": make_qwen2(lines), "clip": make_clip(lines)}.items():
        tokenizer = Tokenizer.from_str(json.dumps(data))
        if name == "t5":
            charsmap = data["normalizer"]["normalizers"][0]["precompiled_charsmap"]
            data["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "@charsmap"
        write_json(os.path.join(arguments.out, name + ".json"), data)
        write_hashes(os.path.join(arguments.out, name + ".ids"), [fnv1a(tokenizer.encode(text).ids) for text in texts])
    for name, blob, before, after in (("t5", t5_model, [], [1]), ("llama", llama_model, [1], [])):
        with open(os.path.join(arguments.out, name + ".model"), "wb") as out:
            out.write(blob)
        processor = sentencepiece.SentencePieceProcessor(model_proto=blob)
        write_hashes(os.path.join(arguments.out, name + ".model.ids"), [fnv1a(before + processor.encode(text) + after) for text in texts])
    write_json(os.path.join(arguments.out, "models.json"), make_models(lines, texts, arguments.out))
    write_json(os.path.join(arguments.out, "variants.json"), make_variants(lines, texts, charsmap, arguments.variants, arguments.seed))


if __name__ == "__main__":
    main()
