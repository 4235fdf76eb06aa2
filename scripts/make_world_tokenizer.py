#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a SentencePiece unigram tokenizer on captions, with the special tokens of T5.

usage: make_world_tokenizer.py captions.txt FOLDER [vocabulary size]

Writes FOLDER/spiece.model, tokenizer_config.json and special_tokens_map.json. Needs the Python
package sentencepiece; kinema itself reads the result without it.
"""
import json
import pathlib
import sys

import sentencepiece


def main():
    captions, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 320
    folder.mkdir(parents=True, exist_ok=True)
    lines = captions.read_text(encoding="utf-8").splitlines()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(folder / "spiece"), vocab_size=size,
        model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2)
    (folder / "spiece.vocab").unlink()
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "T5Tokenizer", "model_max_length": 64, "extra_ids": 0, **special}
    for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
