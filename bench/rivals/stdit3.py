#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""STDiT3 in plain PyTorch (scaled_dot_product_attention, no other tricks), the rival of dit_bench.

  bench/rivals/stdit3.py --check FOLDER...      golden cases of kind dit.stdit3
  bench/rivals/stdit3.py --weights FILE --inputs FILE [--runs N] [--threads N] [--dtype fp32|bf16]
                         takes the --weights and --output of dit_bench and compares the results

Prints one JSON object per run.
"""
import argparse
import json
import math
import os
import resource
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file


class Mlp(nn.Module):
    def __init__(self, inner, hidden, out):
        super().__init__()
        self.fc1 = nn.Linear(inner, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, width, heads, qk_norm):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.q_norm = RmsNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = RmsNorm(width // heads) if qk_norm else nn.Identity()

    def forward(self, x, rotary=None):
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


def rotate(x, rotary):
    cos, sin = rotary
    pairs = x.float().unflatten(-1, (-1, 2))
    a, b = pairs[..., 0], pairs[..., 1]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2).to(x.dtype)


class CrossAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x, context, mask):
        batch, length, width = x.shape
        q = self.q_linear(x).view(batch, length, self.heads, -1).transpose(1, 2)
        kv = self.kv_linear(context).view(batch, -1, 2, self.heads, width // self.heads)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


def modulate(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Block(nn.Module):
    def __init__(self, config, temporal):
        super().__init__()
        width = config["hidden_size"]
        self.temporal = temporal
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.attn = Attention(width, config["num_heads"], config["qk_norm"])
        self.cross_attn = CrossAttention(width, config["num_heads"])
        self.mlp = Mlp(width, int(width * config["mlp_ratio"]), width)

    def forward(self, x, frames, modulation, context, mask, rotary):
        """x [B, T * S, D]; modulation [B, 1 or T, 6, D]."""
        batch, length, width = x.shape
        vectors = self.scale_shift_table + modulation
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            vectors[:, :, i].repeat_interleave(length // vectors.shape[1], 1)
            if vectors.shape[1] > 1 else vectors[:, :, i] for i in range(6))
        y = modulate(x, shift1, scale1).view(batch, frames, -1, width)
        if self.temporal:
            y = self.attn(y.transpose(1, 2).reshape(-1, frames, width), rotary)
            y = y.view(batch, -1, frames, width).transpose(1, 2)
        else:
            y = self.attn(y.reshape(batch * frames, -1, width))
        x = x + gate1 * y.reshape(batch, length, width)
        x = x + self.cross_attn(x, context, mask)
        return x + gate2 * self.mlp(modulate(x, shift2, scale2))


class ScalarEmbedder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values, dtype):
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(128, dtype=torch.float32) / 128)
        angles = values.float()[:, None] * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1).to(dtype))


def position_table(rows, columns, width, base, scale):
    frequencies = 10000.0 ** (-torch.arange(0, width // 2, 2, dtype=torch.float64) / (width // 2))

    def axis(count):
        angles = (torch.arange(count, dtype=torch.float64) * base / count / scale)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)

    by_column = axis(columns)[None].expand(rows, -1, -1)
    by_row = axis(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([by_column, by_row], -1).reshape(rows * columns, width).float()


class Stdit3(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.config = config
        patch = config["patch_size"]
        out = config["in_channels"] * (2 if config["pred_sigma"] else 1)
        self.x_embedder = nn.ModuleDict(
            {"proj": nn.Conv3d(config["in_channels"], width, patch, stride=patch)})
        self.t_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = nn.ModuleDict({"y_proj": Mlp(config["caption_channels"], width, width)})
        self.y_embedder.register_buffer(
            "y_embedding", torch.zeros(config["model_max_length"], config["caption_channels"]))
        self.rope = nn.Module()
        self.rope.register_buffer("freqs", torch.zeros(width // config["num_heads"] // 2))
        self.spatial_blocks = nn.ModuleList(Block(config, False) for _ in range(config["depth"]))
        self.temporal_blocks = nn.ModuleList(Block(config, True) for _ in range(config["depth"]))
        self.final_layer = nn.ModuleDict({"linear": nn.Linear(width, math.prod(patch) * out)})
        self.final_layer.register_parameter("scale_shift_table", nn.Parameter(torch.zeros(2, width)))

    def forward(self, x, timestep, context, mask, fps, height, width):
        """timestep [B] or [B, T]; context [B, M, C]; mask [B, M] or None."""
        dtype = self.t_block[1].weight.dtype
        patch = self.config["patch_size"]
        size = x.shape[2:]
        x = F.pad(x, [p for n, k in zip(size[::-1], patch[::-1]) for p in (0, -n % k)]).to(dtype)
        x = self.x_embedder["proj"](x)
        batch, dim, frames, rows, columns = x.shape
        scale = math.sqrt(float(height[0]) * float(width[0])) / self.config["input_sq_size"]
        table = position_table(rows, columns, dim, round(math.sqrt(rows * columns)), scale)
        x = x.flatten(3).permute(0, 2, 3, 1) + table.to(dtype)
        x = x.reshape(batch, frames * rows * columns, dim)
        condition = self.t_embedder(timestep.flatten(), dtype).view(batch, -1, dim)
        condition = condition + self.fps_embedder(fps, dtype)[:, None]
        modulation = self.t_block(condition).view(batch, -1, 6, dim)
        context = self.y_embedder["y_proj"](context.to(dtype))
        bias = None if mask is None else mask.bool()[:, None, None]
        angles = torch.arange(frames, dtype=torch.float32)[:, None] * self.rope.freqs.float()
        rotary = angles.cos(), angles.sin()
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks):
            x = spatial(x, frames, modulation, context, bias, None)
            x = temporal(x, frames, modulation, context, bias, rotary)
        shift, scale = (self.final_layer.scale_shift_table[i] + condition for i in (0, 1))
        x = x.view(batch, frames, -1, dim)
        x = self.final_layer["linear"](modulate(x, shift[:, :, None], scale[:, :, None]))
        x = x.view(batch, frames, rows, columns, *patch, -1).permute(0, 7, 1, 4, 2, 5, 3, 6)
        x = x.reshape(batch, -1, frames * patch[0], rows * patch[1], columns * patch[2])
        return x[:, :, :size[0], :size[1], :size[2]].float()


def check(folder):
    with open(os.path.join(folder, "config.json")) as file:
        model = Stdit3(json.load(file)).eval()
    model.load_state_dict(load_file(os.path.join(folder, "weights.safetensors")), strict=True)
    io = load_file(os.path.join(folder, "io.safetensors"))
    get = lambda name: io.get("in." + name)
    x, t, y, mask = get("x"), get("timestep"), get("y").squeeze(1), get("mask")
    fps, height, width = get("fps"), get("height"), get("width")
    keep = None
    if get("x_mask") is not None:
        keep = get("x_mask").bool()
        t = torch.where(keep, t[:, None], torch.zeros_like(t)[:, None])
    if get("guidance_batch") is not None:
        null = model.y_embedder.y_embedding[None, :y.shape[1]].expand_as(y)
        x, t, y, mask = torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null]), torch.cat([mask, mask])
        fps, height, width = torch.cat([fps, fps]), torch.cat([height, height]), torch.cat([width, width])
    with torch.inference_mode():
        ours = model(x, t, y, mask, fps, height, width)
    expected = io["out.sample"]
    if keep is not None:
        ours, expected = ours.transpose(1, 2)[keep], expected.transpose(1, 2)[keep]
    worst = ((ours - expected).abs().max() / expected.std()).item()
    print(json.dumps({"case": folder, "worst": worst, "passed": worst <= 1e-4}))
    return worst <= 1e-4


def gemm_rate(tokens=12150):
    x, weight = torch.randn(tokens, 1152), torch.randn(4608, 1152)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        F.linear(x, weight)
        best = min(best, time.perf_counter() - start)
    return 2 * tokens * 1152 * 4608 / best / 1e9


def measure(options):
    torch.set_num_threads(options.threads)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[options.dtype]
    weights = load_file(options.weights)
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("spatial_blocks."))
    config = {"hidden_size": 1152, "num_heads": 16, "depth": depth, "mlp_ratio": 4.0, "qk_norm": True,
              "in_channels": 4, "pred_sigma": True, "patch_size": [1, 2, 2], "caption_channels": 4096,
              "model_max_length": 300, "input_sq_size": 512}
    with torch.device("meta"):
        model = Stdit3(config)
    frequencies = weights["rope.freqs"].float()
    model.load_state_dict({name: value.to(dtype) for name, value in weights.items()}, strict=True, assign=True)
    model.rope.freqs = frequencies
    model.eval()
    inputs = load_file(options.inputs)
    latents, context = inputs["latents"], inputs["context"]
    rows, columns = latents.shape[-2:]
    two = lambda value: torch.full([2], float(value))
    seconds, cpu = [], []
    with torch.inference_mode():
        for _ in range(options.runs):
            start, cpu_start = time.perf_counter(), time.process_time()
            output = model(torch.cat([latents, latents]), two(700), context, None, two(24),
                           two(rows * 8), two(columns * 8))
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    difference = (output.double() - inputs["output"].double()).abs().max().item()
    print(json.dumps({"program": "plain PyTorch STDiT3", "dtype": options.dtype, "layers": depth,
                      "threads": options.threads, "seconds": seconds, "best_seconds": min(seconds),
                      "cpu_seconds": cpu, "best_cpu_seconds": min(cpu), "peak_resident_gb": peak, "gemm_fp32_gflops": gemm_rate(),
                      "output_std": output.std().item(), "max_difference": difference}, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", nargs="+")
    parser.add_argument("--weights")
    parser.add_argument("--inputs")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    if options.check:
        results = [check(folder) for folder in options.check]
        raise SystemExit(0 if all(results) else 1)
    measure(options)


if __name__ == "__main__":
    main()
