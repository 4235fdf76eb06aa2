#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""diffusers' AutoencoderKLCogVideoX on a folder made by cogvideox_vae_bench --make.

  bench/rivals/cogvideox_vae.py --model DIR --mode encode|decode [--frames N] [--size N] [--runs N]
                                [--dtype fp32|bf16] [--threads N] [--compare FILE.safetensors]

Prints one JSON object. --compare takes the --output of cogvideox_vae_bench and adds the greatest
difference in units of the result's standard deviation. --exact runs the model in double precision too and adds the
greatest errors of both programs.
"""
import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file


def make_input(*shape):
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.1).float().view(shape)


def exact_conv3d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """conv3d in double precision without LibTorch's huge unfolded copy: one frame and tap at a time."""
    taps = weight.shape[2]
    time_stride = stride[0] if isinstance(stride, tuple) else stride
    assert time_stride == 1 and (padding[0] if isinstance(padding, tuple) else padding) == 0
    space = padding[1:] if isinstance(padding, tuple) else padding
    step = stride[1:] if isinstance(stride, tuple) else stride
    frames = [
        sum(F.conv2d(x[:, :, t + k], weight[:, :, k], None, step, space) for k in range(taps))
        for t in range(x.shape[2] - taps + 1)
    ]
    y = torch.stack(frames, 2)
    return y if bias is None else y + bias.view(1, -1, 1, 1, 1)


def gemm_rate():
    a = torch.randn(2048, 2048)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=["encode", "decode"], default="decode")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--compare")
    parser.add_argument("--exact", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    dtype = torch.float32 if options.dtype == "fp32" else torch.bfloat16
    vae = AutoencoderKLCogVideoX.from_pretrained(options.model, torch_dtype=dtype).eval()
    latents = (options.frames + 3) // 4
    if options.mode == "encode":
        x = make_input(1, 3, options.frames, options.size, options.size).to(dtype)
        run = lambda: vae.encode(x.to(vae.dtype)).latent_dist.mode()
    else:
        z = make_input(1, vae.config.latent_channels, latents, options.size // 8, options.size // 8).to(dtype)
        run = lambda: vae.decode(z.to(vae.dtype)).sample
    best = float("inf")
    processor = float("inf")
    for _ in range(options.runs):
        result = None
        start = time.perf_counter()
        processor_start = time.process_time()
        result = run()
        best = min(best, time.perf_counter() - start)
        processor = min(processor, time.process_time() - processor_start)
    report = {
        "program": "diffusers",
        "mode": options.mode,
        "frames": options.frames,
        "size": options.size,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "seconds": best,
        "processor_seconds": processor,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "gemm_gflops": gemm_rate(),
    }
    if options.compare:
        ours = load_file(options.compare)["result"]
        result = result.float()
        report["max_difference_in_std"] = ((ours - result).abs().max() / result.std()).item()
    if options.exact:
        vae = vae.double()
        F.conv3d = torch.conv3d = exact_conv3d
        exact = run()
        report["error_in_std"] = ((result.double() - exact).abs().max() / exact.std()).item()
        if options.compare:
            report["ours_error_in_std"] = ((ours.double() - exact).abs().max() / exact.std()).item()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
