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
import json
import os
import struct

import sentencepiece
import tokenizers
from tokenizers import Tokenizer

from tokenizer_corpus import (CONTROLS, EMOJI, MARKS, PUNCTUATION, RANGES, SPACES, SPECIAL, WORDS, compose, fnv1a,
                              sentences)
from tokenizer_training import make_clip, make_llama, make_qwen2, make_t5, train_sentencepiece
from tokenizer_variants import make_variants


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
