#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the small safetensors files in tests/io/data with the reference package.

usage: make_safetensors.py [FOLDER]      (default: tests/io/data of this repository)

Needs torch and safetensors (made with torch 2.11.0, safetensors 0.8.0). The files pin the byte layout
of the reference writer: order of dtypes, order of names, escaping, padding.
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file

DTYPES = {
    "bool": torch.bool, "u8": torch.uint8, "i8": torch.int8, "f8_e4m3": torch.float8_e4m3fn,
    "f8_e5m2": torch.float8_e5m2, "i16": torch.int16, "u16": torch.uint16, "f16": torch.float16,
    "bf16": torch.bfloat16, "i32": torch.int32, "u32": torch.uint32, "f32": torch.float32,
    "i64": torch.int64, "u64": torch.uint64, "f64": torch.float64, "c64": torch.complex64,
}


def counting(dtype, *shape):
    """A tensor whose bytes count up from 1 (bool: 1, 0, 1, ...)."""
    size = torch.empty(0, dtype=dtype).element_size()
    count = size
    for n in shape:
        count *= n
    raw = torch.arange(1, count + 1) % 256 if dtype is not torch.bool else torch.arange(1, count + 1) % 2
    return raw.to(torch.uint8).view(dtype).reshape(shape)


def main():
    if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    default = pathlib.Path(__file__).resolve().parents[2] / "tests" / "io" / "data"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: counting(dtype, 3) for name, dtype in DTYPES.items()},
              folder / "all_dtypes.safetensors", {"format": "pt"})
    save_file({"scalar": counting(torch.float32), "empty": counting(torch.float32, 0, 3),
               "b.weight": counting(torch.float16, 2, 3, 5), "a.weight": counting(torch.float16, 7),
               'quote " \\ \n \x01 \x7f é 視': counting(torch.uint8, 1)},
              folder / "names.safetensors")
    save_file({}, folder / "no_tensors.safetensors")
    save_file({"a": counting(torch.float32, 2, 2), "b": counting(torch.int64, 3)},
              folder / "model-00001-of-00002.safetensors", {"format": "pt"})
    save_file({"c": counting(torch.bfloat16, 4)}, folder / "model-00002-of-00002.safetensors",
              {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(
        '{\n  "metadata": {\n    "total_size": 48\n  },\n  "weight_map": {\n'
        '    "a": "model-00001-of-00002.safetensors",\n    "b": "model-00001-of-00002.safetensors",\n'
        '    "c": "model-00002-of-00002.safetensors"\n  }\n}\n')


if __name__ == "__main__":
    main()
