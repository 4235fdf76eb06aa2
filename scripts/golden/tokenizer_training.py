# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers of four families, trained on composed sentences, as tokenizer.json and .model files."""
import base64
import collections
import io
import json
import struct

import sentencepiece
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from tokenizer_corpus import SPACE


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


def train_byte_level(lines, normalizer, split, vocab_size, suffix=""):
    """Byte pair encoding on byte-level pieces; ties go to the pair that sorts first, so runs agree."""
    pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    counts = collections.Counter()
    for line in lines:
        for piece, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(line)):
            counts[tuple(piece[:-1]) + (piece[-1] + suffix,)] += 1
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {symbol: i for i, symbol in enumerate(alphabet + [symbol + suffix for symbol in alphabet if suffix])}
    merges = []
    while len(vocab) < vocab_size:
        pairs = collections.Counter()
        for word, count in counts.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(list(best))
        vocab.setdefault("".join(best), len(vocab))
        merged = collections.Counter()
        for word, count in counts.items():
            symbols, i = [], 0
            while i < len(word):
                step = 2 if word[i:i + 2] == best else 1
                symbols.append("".join(word[i:i + step]))
                i += step
            merged[tuple(symbols)] += count
        counts = merged
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": suffix or None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges}


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
