#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""diffusers' AutoencoderKL on a folder made by vae_bench --make, with the same input.

  bench/rivals/vae.py --model DIR --op decode|encode [--dtype fp32|bf16] [--channels-last]
                      [--runs N] [--threads N] [--compare FILE.safetensors] [--ours FILE.json]

Prints one JSON object. --compare takes the --output of vae_bench and adds the differences; --ours
its JSON, and adds the ratios of time and peak memory. --exact runs the model in double precision too and adds the
greatest errors of both programs in units of the exact result's standard deviation.
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
    parser.add_argument("--exact", action="store_true")
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
    processor = []
    output = None
    with torch.inference_mode():
        for _ in range(options.runs):
            output = None
            start = time.perf_counter()
            processor_start = time.process_time()
            output = vae.decode(x).sample if options.op == "decode" else vae.encode(x).latent_dist.mean
            seconds.append(time.perf_counter() - start)
            processor.append(time.process_time() - processor_start)
    result = {
        "program": "diffusers AutoencoderKL",
        "op": options.op,
        "dtype": options.dtype,
        "channels_last": options.channels_last,
        "threads": options.threads,
        "seconds": seconds,
        "best_seconds": min(seconds),
        "best_processor_seconds": min(processor),
        "peak_resident_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    if options.compare:
        ours = load_file(options.compare)["output"].double()
        difference = (ours - output.double()).abs()
        result["output_std"] = output.double().std().item()
        result["max_difference"] = difference.max().item()
        result["mean_difference"] = difference.mean().item()
        result["max_difference_in_std"] = (difference.max() / output.double().std()).item()
    if options.exact:
        vae = vae.double()
        with torch.inference_mode():
            x = x.double()
            exact = vae.decode(x).sample if options.op == "decode" else vae.encode(x).latent_dist.mean
        spread = exact.std()
        result["error_in_std"] = ((output.double() - exact).abs().max() / spread).item()
        if options.compare:
            result["ours_error_in_std"] = ((ours - exact).abs().max() / spread).item()
    if options.ours:
        with open(options.ours, encoding="utf-8") as file:
            ours = json.load(file)
        result["times_as_long"] = result["best_seconds"] / ours["best_seconds"]
        result["times_as_much_processor"] = result["best_processor_seconds"] / ours["best_processor_seconds"]
        result["ours_peak_share"] = ours["peak_resident_gb"] / result["peak_resident_gb"]
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
