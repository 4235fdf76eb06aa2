#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a SentencePiece unigram tokenizer on captions, with the special tokens of T5.

usage: make_world_tokenizer.py captions.txt FOLDER [vocabulary size]

Writes FOLDER/spiece.model, tokenizer_config.json and special_tokens_map.json. Needs the Python
package sentencepiece; kinema itself reads the result without it.
"""
import collections
import json
import pathlib
import sys

import sentencepiece


def main():
    captions, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 320
    folder.mkdir(parents=True, exist_ok=True)
    lines = captions.read_text(encoding="utf-8").splitlines()
    # Seeds that the trainer finds itself are substrings that several words share: few, in so small a
    # language. Whole words are what captions are made of.
    words = collections.Counter("\u2581" + word for line in lines for word in line.split())
    seeds = folder / "seeds.tsv"
    seeds.write_text("".join(f"{word}\t{count}\n" for word, count in words.items()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "spiece"), vocab_size=size,
        model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
        character_coverage=1.0, normalization_rule_name="nmt_nfkc_cf", hard_vocab_limit=False, minloglevel=2,
        seed_sentencepieces_file=str(seeds))
    (folder / "spiece.vocab").unlink()
    seeds.unlink()
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 64, "extra_ids": 0, **special}
    for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
