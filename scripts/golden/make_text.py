#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden cases of tests/golden/text_own with transformers: small random models, other shapes and
flags than tests/golden/text.

  scripts/golden/make_text.py [--out tests/golden/text_own]

Needs torch 2.11, transformers 5 and safetensors. Regenerating changes the expected outputs: a review event.
"""
import argparse
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file

NOTE_T5 = "Compare rows with mask 1; rows at padding are garbage in the reference."


def randomize(model, seed):
    """Random weights of a size that keeps activations near 1 and attention away from one-hot."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1.0 if parameter.dim() < 2 or "embed" in name or "shared" in name else parameter.shape[1] ** -0.5
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.3 if offset else scale) + offset)
    return model.eval()


def ids_and_mask(vocab, lengths, width, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocab, (len(lengths), width), generator=generator)
    mask = torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    return ids, mask


def save_case(folder, kind, seed, what, config, weights, io, limit=1e-4):
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    save_file(weights, folder / "weights.safetensors")
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in io.items()}, folder / "io.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    case = {
        "kind": kind,
        "reference": "transformers",
        "version_or_commit": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
        "seed": seed,
        "what": what,
        "call": "model(input_ids=in.input_ids, attention_mask=in.attention_mask when present)",
        "tolerance": {"max_abs": limit, "relative_to": "std of output"},
        "notes": [NOTE_T5] if "t5" in kind else [],
    }
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")


def t5_case(out, name, seed, what, config, mask_of=None, lengths=(9,), width=None, dtype=None, whole=False, limit=1e-4):
    is_umt5 = config.pop("umt5", False)
    family = "UMT5" if is_umt5 else "T5"
    width = width or max(lengths)
    config_class = getattr(transformers, f"{family}Config")
    architecture = f"{family}ForConditionalGeneration" if whole else f"{family}EncoderModel"
    model = randomize(getattr(transformers, architecture)(config_class(**config)), seed)
    if dtype is not None:  # the file is narrow, the run is fp32 with the rounded weights
        model = model.to(dtype).float()
    ids, mask = ids_and_mask(config["vocab_size"], lengths, width, seed + 1)
    if mask_of is not None:
        mask = mask_of(mask)
    encoder = model.get_encoder()
    dense = bool((mask == 1).all())
    with torch.inference_mode():
        state = encoder(input_ids=ids, attention_mask=None if dense else mask).last_hidden_state
    weights = {key: value for key, value in model.state_dict().items() if not key.endswith("embed_tokens.weight")}
    weights = {key: value.to(dtype) if dtype else value for key, value in weights.items()}
    io = {"in.input_ids": ids, "out.last_hidden_state": state}
    if not dense:
        io |= {"in.attention_mask": mask, "out.last_hidden_state_masked": state * mask[..., None]}
    saved = {"model_type": family.lower(), "architectures": [architecture], **config}
    save_case(out / name, "text.umt5_encoder" if is_umt5 else "text.t5_encoder", seed, what, saved, weights, io, limit)


def clip_case(out, name, seed, what, config, lengths, width, whole=False, projection=False, with_mask=False):
    text_config = transformers.CLIPTextConfig(**config)
    if whole:
        vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "image_size": 4, "patch_size": 2}
        full = transformers.CLIPConfig(text_config=text_config.to_dict(), vision_config=vision,
                                       projection_dim=config["projection_dim"])
        model = randomize(transformers.CLIPModel(full), seed)
        saved = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": config["projection_dim"],
                 "text_config": {"model_type": "clip_text_model", **config}, "vision_config": vision}
    elif projection:
        model = randomize(transformers.CLIPTextModelWithProjection(text_config), seed)
        saved = {"model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"], **config}
    else:
        model = randomize(transformers.CLIPTextModel(text_config), seed)
        saved = {"model_type": "clip_text_model", "architectures": ["CLIPTextModel"], **config}
    ids, mask = ids_and_mask(config["vocab_size"] - 1, lengths, width, seed + 1)
    for row, length in enumerate(lengths):
        ids[row, length - 1] = config["eos_token_id"] if config["eos_token_id"] != 2 else config["vocab_size"] - 1
    text_model = model if not (whole or projection) else model.text_model
    with torch.inference_mode():
        output = text_model(input_ids=ids, attention_mask=mask if with_mask else None, output_hidden_states=True)
    io = {"in.input_ids": ids, "out.last_hidden_state": output.last_hidden_state,
          "out.penultimate_hidden_state": output.hidden_states[-2], "out.pooler_output": output.pooler_output}
    if with_mask:
        io["in.attention_mask"] = mask
    if whole or projection:
        with torch.inference_mode():
            io["out.text_embeds"] = model.text_projection(output.pooler_output)
    save_case(out / name, "text.clip_text", seed, what, saved, model.state_dict(), io)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tests/golden/text_own"))
    out = parser.parse_args().out
    torch.set_num_threads(1)
    base = {"vocab_size": 70, "d_model": 20, "d_kv": 6, "d_ff": 28, "num_layers": 2, "num_heads": 3,
            "feed_forward_proj": "gated-gelu"}

    def holes(mask):
        mask[0, 1::3] = 0
        mask[1, :5] = 0
        return mask

    t5_case(out, "t5_far", 1, "one layer, 150 tokens: farther apart than max_distance",
            base | {"num_layers": 1, "num_heads": 5, "d_kv": 7}, lengths=(150,))
    t5_case(out, "t5_near_buckets", 2, "8 buckets up to distance 12, batch of three lengths",
            base | {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}, lengths=(33, 2, 20))
    t5_case(out, "t5_mask_holes", 3, "mask with holes, and padding in front", base, mask_of=holes, lengths=(14, 14))
    t5_case(out, "t5_one_token", 4, "batch 1, one token, one head", base | {"num_heads": 1, "d_kv": 20}, lengths=(1,))
    t5_case(out, "t5_silu", 5, "gated-silu", base | {"feed_forward_proj": "gated-silu"}, lengths=(11, 6))
    t5_case(out, "t5_gelu_not_gated", 6, "gelu with erf, one wi, larger epsilon",
            base | {"feed_forward_proj": "gelu", "layer_norm_epsilon": 1e-3}, lengths=(11, 6))
    t5_case(out, "t5_fp16_file", 7, "fp16 weights, run in fp32", base, lengths=(17, 9), dtype=torch.float16)
    t5_case(out, "t5_bf16_file", 8, "bf16 weights, run in fp32", base, lengths=(17, 9), dtype=torch.bfloat16)
    t5_case(out, "t5_whole_model", 9, "T5ForConditionalGeneration with decoder and lm_head", base | {"num_decoder_layers": 1},
            lengths=(12, 5), whole=True)
    t5_case(out, "umt5_far", 10, "UMT5, 40 tokens, max_distance 16, mask with holes",
            base | {"umt5": True, "relative_attention_max_distance": 16, "num_layers": 3}, mask_of=holes, lengths=(40, 31))
    clip = {"vocab_size": 60, "hidden_size": 18, "intermediate_size": 30, "projection_dim": 7, "num_hidden_layers": 3,
            "num_attention_heads": 2, "max_position_embeddings": 15, "hidden_act": "gelu", "eos_token_id": 59,
            "bos_token_id": 58, "pad_token_id": 0}
    clip_case(out, "clip_projection", 20, "CLIPTextModelWithProjection, erf GELU, padding mask", clip, (15, 4, 9), 15,
              projection=True, with_mask=True)
    clip_case(out, "clip_whole_model", 21, "text side of a CLIPModel, quick GELU, old eos id", clip
              | {"hidden_act": "quick_gelu", "eos_token_id": 2}, (10, 7), 10, whole=True)
    clip_case(out, "clip_one_layer", 22, "one layer: the penultimate state is the embedding", clip
              | {"num_hidden_layers": 1}, (6,), 6)


if __name__ == "__main__":
    main()
