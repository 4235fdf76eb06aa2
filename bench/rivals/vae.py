#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""diffusers' AutoencoderKL on a folder made by vae_bench --make, with the same input.

  bench/rivals/vae.py --model DIR --op decode|encode [--dtype fp32|bf16] [--channels-last]
                      [--runs N] [--threads N] [--compare FILE.safetensors] [--ours FILE.json]

Prints one JSON object. --compare takes the --output of vae_bench and adds the differences; --ours
its JSON, and adds the ratios of time and peak memory.
"""
import argparse
import json
import resource
import time

import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--op", choices=["decode", "encode"], default="decode")
    parser.add_argument("--dtype", choices=["bf16", "fp32"], default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compare")
    parser.add_argument("--ours")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]

    vae = AutoencoderKL.from_pretrained(options.model, torch_dtype=dtype, low_cpu_mem_usage=False).eval()
    inputs = load_file(options.model + "/inputs/inputs.safetensors")
    x = inputs["latents" if options.op == "decode" else "image"].to(dtype)
    if options.channels_last:
        vae = vae.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    seconds = []
    output = None
    with torch.inference_mode():
        for _ in range(options.runs):
            output = None
            start = time.perf_counter()
            output = vae.decode(x).sample if options.op == "decode" else vae.encode(x).latent_dist.mean
            seconds.append(time.perf_counter() - start)
    result = {
        "program": "diffusers AutoencoderKL",
        "op": options.op,
        "dtype": options.dtype,
        "channels_last": options.channels_last,
        "threads": options.threads,
        "seconds": seconds,
        "best_seconds": min(seconds),
        "peak_resident_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    if options.compare:
        ours = load_file(options.compare)["output"].double()
        difference = (ours - output.double()).abs()
        result["output_std"] = output.double().std().item()
        result["max_difference"] = difference.max().item()
        result["mean_difference"] = difference.mean().item()
    if options.ours:
        with open(options.ours, encoding="utf-8") as file:
            ours = json.load(file)
        result["times_as_long"] = result["best_seconds"] / ours["best_seconds"]
        result["ours_peak_share"] = ours["peak_resident_gb"] / result["peak_resident_gb"]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
