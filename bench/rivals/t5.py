#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""transformers' T5EncoderModel on a folder made by t5_xxl_bench --make, with the same token ids.

  bench/rivals/t5.py --model DIR [--dtype bf16|fp32] [--tokens N] [--runs N] [--threads N]
                     [--compare FILE.safetensors]

Prints one JSON object. --compare takes the --output of t5_xxl_bench and adds the differences.
"""
import argparse
import json
import resource
import time

import torch
from safetensors.torch import load_file
from transformers import T5EncoderModel


def gemm_rate(dtype, tokens):
    x = torch.randn(tokens, 4096).to(dtype)
    weight = torch.randn(4096, 4096).to(dtype)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - start)
    return 2 * tokens * 4096 * 4096 / best / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compare")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]

    start = time.perf_counter()
    model = T5EncoderModel.from_pretrained(options.model, dtype=dtype).eval()
    load_seconds = time.perf_counter() - start
    ids = (torch.arange(options.tokens) * 7919 + 13).remainder(model.config.vocab_size)[None]
    seconds, cpu_seconds = [], []
    with torch.inference_mode():
        for _ in range(options.runs):
            cpu_start = time.process_time()
            start = time.perf_counter()
            context = model(input_ids=ids).last_hidden_state
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
    result = {
        "program": "transformers T5EncoderModel",
        "dtype": options.dtype,
        "threads": options.threads,
        "tokens": options.tokens,
        "load_seconds": load_seconds,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "best_seconds": min(seconds),
        "peak_resident_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "gemm_fp32_gflops": gemm_rate(torch.float32, options.tokens),
        "gemm_bf16_gflops": gemm_rate(torch.bfloat16, options.tokens),
    }
    if options.compare:
        ours = load_file(options.compare)
        assert torch.equal(ours["ids"], ids), "other token ids"
        difference = (ours["context"].double() - context.double()).abs()
        result["output_std"] = context.double().std().item()
        result["max_difference"] = difference.max().item()
        result["mean_difference"] = difference.mean().item()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
