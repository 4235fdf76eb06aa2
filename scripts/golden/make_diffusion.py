#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden cases of the diffusers schedulers with options that other cases do not cover.

  pip install torch==2.11.0 diffusers==0.42.1 scipy safetensors
  python scripts/golden/make_diffusion.py tests/golden/diffusion_own
  python scripts/golden/make_diffusion.py /tmp/cases --random 200 --seed 1

Every case is a run of the reference class with all float32 replaced by float64 ("out.*_f64") on
a denoiser that case.json writes out, so that a float64 implementation must agree to 1e-9. With
--random, options are drawn; combinations that the reference refuses or that give no finite numbers
are left out.
"""
import argparse
import importlib.util
import json
import math
import pathlib
import random
import sys
import types

import diffusers
import torch
from safetensors.torch import save_file

SHAPE = (1, 4, 2, 2, 2)
KINDS = {
    "DDPMScheduler": ("ddpm", "scheduling_ddpm"),
    "DDIMScheduler": ("ddim", "scheduling_ddim"),
    "DPMSolverMultistepScheduler": ("dpmpp", "scheduling_dpmsolver_multistep"),
    "UniPCMultistepScheduler": ("unipc", "scheduling_unipc_multistep"),
    "EulerDiscreteScheduler": ("euler", "scheduling_euler_discrete"),
    "FlowMatchEulerDiscreteScheduler": ("flowmatch", "scheduling_flow_match_euler_discrete"),
}
DENOISER = (
    "analytic denoiser (float64): u=(t+1)/1000, a2=exp(-(0.1u+9.95u^2)), a=sqrt(a2), b=sqrt(1-a2), "
    "s2=0.36, mu=in.mu; eps = b(x-a mu)/(a2 s2+b^2) + 0.1 b sin(2x) [epsilon]; "
    "v = a eps - b (x-b eps)/a [v_prediction]; sample: mu + a s2 (x-a mu)/(a2 s2+b^2) + 0.05 sin(2x); "
    "learned_range: cat(eps, tanh(x+t/1000)) on dim 1; flow_prediction: s=t/1000, var=(1-s)^2 s2+s^2, "
    "r=x-(1-s)mu, v = s r/var - (mu+(1-s) s2 r/var) + 0.1 sin(2x)."
)


def double_module(name):
    """The reference module with float64 in place of float32; noise comes from `module.draws`."""
    origin = importlib.util.find_spec(f"diffusers.schedulers.{name}").origin
    source = pathlib.Path(origin).read_text().replace("float32", "float64")
    module = types.ModuleType(f"diffusers.schedulers.{name}_f64")
    module.__package__ = "diffusers.schedulers"
    module.__file__ = origin
    sys.modules[module.__name__] = module
    exec(compile(source, origin, "exec"), module.__dict__)
    module.draws = []
    module.randn_tensor = lambda shape, **_: module.draws[-1].expand(shape)
    return module


def denoise(kind, x, t, mu):
    t = float(t)
    s2 = 0.36
    if kind == "flow_prediction":
        s = t / 1000
        var = (1 - s) ** 2 * s2 + s * s
        r = x - (1 - s) * mu
        return s * r / var - (mu + (1 - s) * s2 * r / var) + 0.1 * torch.sin(2 * x)
    u = (t + 1) / 1000
    a2 = math.exp(-(0.1 * u + 9.95 * u * u))
    a, b = math.sqrt(a2), math.sqrt(1 - a2)
    eps = b * (x - a * mu) / (a2 * s2 + b * b) + 0.1 * b * torch.sin(2 * x)
    if kind == "v_prediction":
        return a * eps - b * (x - b * eps) / a
    if kind == "sample":
        return mu + a * s2 * (x - a * mu) / (a2 * s2 + b * b) + 0.05 * torch.sin(2 * x)
    if kind == "learned_range":
        return torch.cat([eps, torch.tanh(x + t / 1000)], dim=1)
    return eps


def run(modules, class_name, config, call, seed):
    """Tensors of one case, or an exception of the reference."""
    module = modules[class_name]
    scheduler = getattr(module, class_name)(**config)
    schedule = {k: v for k, v in call.items() if k in ("num_inference_steps", "timesteps", "sigmas", "mu")}
    step_args = {k: v for k, v in call.items() if k not in schedule and k != "denoiser"}
    scheduler.set_timesteps(**schedule)
    generator = torch.Generator().manual_seed(seed)
    count = len(scheduler.timesteps)
    mu = 0.5 * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    start = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    noise = torch.randn((count, *SHAPE), generator=generator, dtype=torch.float64)
    x = start * getattr(scheduler, "init_noise_sigma", 1.0)
    tensors = {"in.mu": mu, "in.x_T": start, "in.noise": noise}
    trajectory, outputs, clean = [x], [], []
    for i, t in enumerate(scheduler.timesteps):
        module.draws.append(noise[i])
        out = denoise(call["denoiser"], scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x, t, mu)
        result = scheduler.step(out, t, x, **step_args)
        x = result.prev_sample
        outputs.append(out)
        trajectory.append(x)
        clean.append(getattr(result, "pred_original_sample", None))
    tensors["out.traj_f64"] = torch.stack(trajectory)
    tensors["out.model_output_f64"] = torch.stack(outputs)
    if clean[0] is not None:
        tensors["out.pred_x0_f64"] = torch.stack(clean)
    if scheduler.timesteps.dtype == torch.int64:
        tensors["out.timesteps"] = scheduler.timesteps
    else:
        tensors["out.timesteps_f64"] = scheduler.timesteps.double()
    if class_name not in ("DDPMScheduler", "DDIMScheduler"):
        tensors["out.sigmas_f64"] = scheduler.sigmas.double()
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor.double()).all():
            raise ValueError(f"{name} is not finite")
        if tensor.double().abs().max() > 1e6:
            raise ValueError(f"{name} grows too large to compare to 1e-9")
    return scheduler, {name: tensor.contiguous() for name, tensor in tensors.items()}


def write(folder, name, class_name, scheduler, call, tensors, seed, what):
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    config = {"_class_name": class_name, "_diffusers_version": diffusers.__version__}
    config.update({k: v for k, v in scheduler.config.items() if not k.startswith("_")})
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    largest = max(float(t.double().abs().max()) for t in tensors.values())
    case = {
        "kind": f"diffusion.scheduler.{KINDS[class_name][0]}",
        "reference": f"diffusers {class_name}, float32 replaced by float64",
        "version_or_commit": f"diffusers {diffusers.__version__}, torch {torch.__version__.split('+')[0]}",
        "seed": seed,
        "what": what,
        "call": {"set_timesteps_and_step": call},
        "denoiser": DENOISER,
        "tolerance": {"max_abs": 1e-9 * max(1.0, largest), "relative_to": "absolute, out.*_f64"},
    }
    (path / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file(tensors, str(path / "io.safetensors"))


EPS, V, X0, FLOW = "epsilon", "v_prediction", "sample", "flow_prediction"
CASES = [
    ("ddpm_laplace_log", "DDPMScheduler", dict(beta_schedule="laplace", variance_type="fixed_small_log", clip_sample=False, prediction_type=X0, timestep_spacing="linspace"), dict(num_inference_steps=6, denoiser=X0)),
    ("ddpm_sigmoid_threshold", "DDPMScheduler", dict(beta_schedule="sigmoid", thresholding=True, sample_max_value=1.5, dynamic_thresholding_ratio=0.9, prediction_type=V, steps_offset=1), dict(num_inference_steps=5, denoiser=V)),
    ("ddpm_custom_times", "DDPMScheduler", dict(clip_sample=False, variance_type="fixed_large"), dict(timesteps=[999, 700, 300, 50, 0], denoiser=EPS)),
    ("ddim_sample_cosine", "DDIMScheduler", dict(beta_schedule="squaredcos_cap_v2", prediction_type=X0, clip_sample=False, timestep_spacing="linspace", set_alpha_to_one=False), dict(num_inference_steps=6, eta=0.7, denoiser=X0)),
    ("dpm_noise_order3", "DPMSolverMultistepScheduler", dict(algorithm_type="dpmsolver", solver_order=3, final_sigmas_type="sigma_min", prediction_type=V), dict(num_inference_steps=16, denoiser=V)),
    ("dpm_sde_noise_heun", "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver", solver_type="heun", final_sigmas_type="sigma_min", timestep_spacing="trailing"), dict(num_inference_steps=6, denoiser=EPS)),
    ("dpmpp_sde3_cosine_clipped", "DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++", solver_order=3, beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), dict(num_inference_steps=7, denoiser=EPS)),
    ("dpmpp_lu", "DPMSolverMultistepScheduler", dict(use_lu_lambdas=True, lower_order_final=False, prediction_type=X0), dict(num_inference_steps=6, denoiser=X0)),
    ("dpmpp_beta_sigmas", "DPMSolverMultistepScheduler", dict(use_beta_sigmas=True, solver_type="heun"), dict(num_inference_steps=7, denoiser=EPS)),
    ("dpmpp_exponential_zsnr", "DPMSolverMultistepScheduler", dict(use_exponential_sigmas=True, rescale_betas_zero_snr=True, prediction_type=V), dict(num_inference_steps=6, denoiser=V)),
    ("dpmpp_dynamic_mu", "DPMSolverMultistepScheduler", dict(use_flow_sigmas=True, use_dynamic_shifting=True, prediction_type=FLOW), dict(num_inference_steps=6, mu=0.9, denoiser=FLOW)),
    ("dpmpp_threshold", "DPMSolverMultistepScheduler", dict(thresholding=True, sample_max_value=1.2, solver_order=3), dict(num_inference_steps=8, denoiser=EPS)),
    ("unipc_noise_order3", "UniPCMultistepScheduler", dict(predict_x0=False, solver_order=3, final_sigmas_type="sigma_min"), dict(num_inference_steps=8, denoiser=EPS)),
    ("unipc_no_corrector", "UniPCMultistepScheduler", dict(disable_corrector=[0, 1, 3], solver_order=3, prediction_type=X0, timestep_spacing="trailing"), dict(num_inference_steps=7, denoiser=X0)),
    ("unipc_karras_flow", "UniPCMultistepScheduler", dict(use_karras_sigmas=True, use_flow_sigmas=True, prediction_type=FLOW, sigma_min=0.02, sigma_max=80.0), dict(num_inference_steps=6, denoiser=FLOW)),
    ("unipc_flow_terminal", "UniPCMultistepScheduler", dict(use_flow_sigmas=True, use_dynamic_shifting=True, shift_terminal=0.05, prediction_type=FLOW, final_sigmas_type="sigma_min", lower_order_final=False), dict(num_inference_steps=6, mu=1.1, denoiser=FLOW)),
    ("unipc_bh1_order4", "UniPCMultistepScheduler", dict(solver_type="bh1", solver_order=4, lower_order_final=False, final_sigmas_type="sigma_min"), dict(num_inference_steps=9, denoiser=EPS)),
    ("euler_log_linear", "EulerDiscreteScheduler", dict(interpolation_type="log_linear", final_sigmas_type="sigma_min", timestep_spacing="trailing"), dict(num_inference_steps=6, denoiser=EPS)),
    ("euler_beta_sample", "EulerDiscreteScheduler", dict(use_beta_sigmas=True, prediction_type=X0, sigma_min=0.05, sigma_max=40.0), dict(num_inference_steps=6, denoiser=X0)),
    ("euler_sigmas_churn", "EulerDiscreteScheduler", dict(), dict(sigmas=[12.0, 5.0, 2.0, 0.7, 0.2, 0.0], s_churn=1.5, s_tmin=0.5, s_tmax=6.0, denoiser=EPS)),
    ("flowmatch_linear_mu_beta", "FlowMatchEulerDiscreteScheduler", dict(use_dynamic_shifting=True, time_shift_type="linear", use_beta_sigmas=True), dict(num_inference_steps=6, mu=2.0, denoiser=FLOW)),
    ("flowmatch_inverted_karras", "FlowMatchEulerDiscreteScheduler", dict(invert_sigmas=True, use_karras_sigmas=True, shift=2.0), dict(num_inference_steps=6, denoiser=FLOW)),
]


def random_case(rng):
    class_name = rng.choice(list(KINDS))
    config, call = {}, {}
    steps = rng.choice([1, 2, 3, 4, 5, 8, 13, 15, 20])
    call["num_inference_steps"] = steps
    prediction = rng.choice([EPS, V, X0])
    flag = lambda p=0.3: rng.random() < p
    if class_name != "FlowMatchEulerDiscreteScheduler":
        schedules = ["linear", "scaled_linear", "squaredcos_cap_v2"]
        config["beta_schedule"] = rng.choice(schedules + (["sigmoid", "laplace"] if class_name == "DDPMScheduler" else []))
        if flag():
            config.update(beta_start=0.00085, beta_end=0.012)
        config["timestep_spacing"] = rng.choice(["linspace", "leading", "trailing"])
        config["steps_offset"] = rng.choice([0, 1])
        config["rescale_betas_zero_snr"] = flag(0.2)
        config["prediction_type"] = prediction
        if flag(0.1):
            config["num_train_timesteps"] = 500
    if class_name in ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler") and flag(0.2):
        config.update(thresholding=True, dynamic_thresholding_ratio=rng.choice([0.8, 0.995]), sample_max_value=rng.choice([1.0, 2.0]))
    if class_name in ("DDPMScheduler", "DDIMScheduler"):
        config.update(clip_sample=flag(), clip_sample_range=rng.choice([1.0, 0.7]))
    if class_name == "DDPMScheduler":
        config["variance_type"] = rng.choice(["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
        if config["variance_type"] == "learned_range":
            config["prediction_type"] = EPS
            prediction = "learned_range"
    if class_name == "DDIMScheduler":
        config["set_alpha_to_one"] = flag(0.5)
        call.update(eta=rng.choice([0.0, 0.3, 1.0]), use_clipped_model_output=flag())
    if class_name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler"):
        config["solver_order"] = rng.choice([1, 2, 3])
        config["lower_order_final"] = flag(0.7)
        config["final_sigmas_type"] = rng.choice(["zero", "sigma_min"])
        if flag():
            config.update(use_flow_sigmas=True, flow_shift=rng.choice([1.0, 3.0, 7.5]), prediction_type=FLOW)
            prediction = FLOW
    if class_name == "DPMSolverMultistepScheduler":
        config.update(algorithm_type=rng.choice(["dpmsolver", "dpmsolver++", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"]), solver_type=rng.choice(["midpoint", "heun"]), euler_at_final=flag())
        if flag(0.2):
            config["lambda_min_clipped"] = -3.0
        if flag(0.2):
            config["use_lu_lambdas"] = True
    if class_name == "UniPCMultistepScheduler":
        config.update(solver_type=rng.choice(["bh1", "bh2"]), predict_x0=flag(0.7), disable_corrector=rng.choice([[], [], [0], [1, 2]]))
        if prediction == FLOW and flag():
            config["use_dynamic_shifting"] = True
            call["mu"] = 0.8
    if class_name == "EulerDiscreteScheduler":
        config.update(interpolation_type=rng.choice(["linear", "linear", "log_linear"]), timestep_type=rng.choice(["discrete", "discrete", "continuous"]), final_sigmas_type=rng.choice(["zero", "sigma_min"]))
        if flag():
            call.update(s_churn=rng.choice([0.5, 3.0]), s_noise=1.01, s_tmin=rng.choice([0.0, 0.3]), s_tmax=20.0)
    if class_name == "FlowMatchEulerDiscreteScheduler":
        prediction = FLOW
        config.update(shift=rng.choice([1.0, 2.5, 5.0]), stochastic_sampling=flag(), time_shift_type=rng.choice(["exponential", "linear"]))
        if flag():
            config["use_dynamic_shifting"] = True
            call["mu"] = rng.choice([0.5, 1.2])
        if flag():
            config["shift_terminal"] = rng.choice([0.02, 0.1])
        if flag(0.15):
            config["invert_sigmas"] = True
    if class_name not in ("DDPMScheduler", "DDIMScheduler") and flag(0.4):
        config[rng.choice(["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"])] = True
    call["denoiser"] = prediction
    return class_name, config, call


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    diffusers.utils.logging.set_verbosity_error()
    modules = {name: double_module(entry[1]) for name, entry in KINDS.items()}
    if args.random == 0:
        for number, (name, class_name, config, call) in enumerate(CASES):
            scheduler, tensors = run(modules, class_name, config, dict(call), 800 + number)
            what = ", ".join(f"{k}={v}" for k, v in config.items()) or "default configuration"
            write(args.folder, name, class_name, scheduler, call, tensors, 800 + number, what)
        return
    rng = random.Random(args.seed)
    made = 0
    while made < args.random:
        class_name, config, call = random_case(rng)
        try:
            scheduler, tensors = run(modules, class_name, config, dict(call), made)
        except Exception as error:  # the reference refuses
            print("left out:", class_name, config, call, type(error).__name__, str(error)[:100])
            continue
        write(args.folder, f"random_{made:04d}", class_name, scheduler, call, tensors, made, "drawn options")
        made += 1


if __name__ == "__main__":
    main()
