# SPDX-License-Identifier: Apache-2.0
"""Random pipelines of tokenizer.json over small models."""
import json
import sys

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from tokenizer_corpus import SPACE, Random, fnv1a
from tokenizer_training import (CLIP, QWEN2, added, file_of, merges_of, pieces_of, template, train_byte_level,
                                train_sentencepiece)

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
