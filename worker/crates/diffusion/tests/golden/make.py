"""Makes tiny random models and what the reference draws with them: the data of ../golden.rs.

    python make.py                              # the tiny models and their golden tensors, schedulers.json
    python make.py --pocket ../../../../models/pocket   # golden tensors of a real model's folder, as pocket.*
    python make.py --pocket DIR --out ELSEWHERE         # the same, elsewhere
    python make.py --loras                              # only loras/, for the models there
    python make.py --prompts                            # only prompts/, of the models there
    python make.py --schedulers                         # only schedulers.json and sd1-schedulers.*, of the models there

Needs torch, diffusers, transformers, safetensors, scipy, torchsde, peft and opencv-python-headless; their versions are written into every manifest. Everything is
fixed by seeds, in float32, on one thread.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import prompts
import single
import scipy
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from images import golden_images
from loras import make_loras
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

HERE = Path(__file__).parent
SCHEDULERS = {
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {"use_karras_sigmas": False}),
    "euler_karras": (EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
}
SPACINGS = ("karras", "exponential", "beta")
# Solvers that came later than the data of the models: their tables and walks are in schedulers.json, what a model draws
# with them in sd1-schedulers.*.
LATER_SOLVERS = {
    "heun": (HeunDiscreteScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "lms": (LMSDiscreteScheduler, {}),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
    "dpmpp_sde": (DPMSolverSDEScheduler, {}),
}
LATER_SPACED = {
    f"{name}_{spacing}": (kind, {**changes, f"use_{spacing}_sigmas": True})
    for name, (kind, changes) in {
        "euler": (EulerDiscreteScheduler, {}),
        "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
        **LATER_SOLVERS,
    }.items()
    for spacing in SPACINGS
    if name not in ("ddpm", "lcm") and f"{name}_{spacing}" not in SCHEDULERS
}
LATER_STEP_COUNTS = (1, 2, 7, 33)
# The options that some of the later solvers read.
LATER_VARIANTS = ("stable", "linear", "cosine", "leading-offset", "trailing", "linspace", "v", "sample", "zero-snr", "clip", "sigma-min", "short", "bare")
LATER_VARIANTS_OF = {
    "ddpm": ("fixed-large",),
    "dpmpp_2m_sde": ("heun", "first-order", "euler-at-final", "no-lower-order", "lambda"),
    "unipc": ("no-lower-order", "first-order", "bh1"),
}
LATER_SPACED_VARIANTS = ("stable", "cosine", "leading-offset", "trailing", "v", "sigma-min", "sigma-bounds")
SEEDS = (11, 12)
STEP_COUNTS = (7, 20)
# Latents larger than this are kept for every step of the short walks only.
LATENT_BYTES_FOR_EVERY_STEP = 2048


def versions():
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def noise(seed, stream, count):
    """Near-normal values that both languages make alike: twelve 16-bit uniforms of splitmix64, added, less six."""
    with np.errstate(over="ignore"):
        total = np.zeros(count, dtype=np.float64)
        for word in range(3):
            index = np.arange(count, dtype=np.uint64) * np.uint64(3) + np.uint64(word)
            x = index + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(stream) * np.uint64(0xD1B54A32D192ED03)
            x = x + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
            for part in range(4):
                piece = (x >> np.uint64(16 * part)) & np.uint64(0xFFFF)
                total += (piece.astype(np.float64) + 0.5) / 65536.0
    return torch.from_numpy((total - 6.0).astype(np.float32))


def randomise(model, seed):
    """Weights large enough to matter everywhere, norms and biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                if "embedding" in name and "time_embedding" not in name and "add_embedding" not in name:
                    fan_in = 4
                parameter.copy_(values * (0.8 / fan_in**0.5))
            elif "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * values)
            else:
                parameter.copy_(0.1 * values)
    return model.eval()


def byte_alphabet():
    """The printable stand-ins for bytes that GPT-2's vocabularies use."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]


MERGES = ["t h", "th e</w>", "a n", "an d</w>", "r e", "re d</w>", "c a", "ca t</w>", "f o", "fo x</w>", "o n</w>", "i n", "in g</w>"]


def vocabulary():
    letters = byte_alphabet()
    tokens = letters + [letter + "</w>" for letter in letters] + [merge.replace(" ", "") for merge in MERGES]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}


def tokenizer(length, pad="<|endoftext|>"):
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    return CLIPTokenizer(vocab=vocabulary(), merges=merges, model_max_length=length, pad_token=pad)


def text_config(**changes):
    end = len(vocabulary()) - 1
    config = {
        "vocab_size": len(vocabulary()),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "hidden_act": "quick_gelu",
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
        "projection_dim": 16,
    }
    return CLIPTextConfig(**{**config, **changes})


def autoencoder(seed, **changes):
    config = {
        "block_out_channels": [8, 8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 32,
    }
    return randomise(AutoencoderKL(**{**config, **changes}), seed)


STABLE_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def make_sd1(folder):
    """Stable Diffusion 1.5's shape, weights in f32, the tokenizer as that model has it: vocabulary and merges only."""
    unet = randomise(
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16, 24),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=16,
            norm_num_groups=4,
        ),
        1,
    )
    scheduler = PNDMScheduler(**STABLE_BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    pipe = StableDiffusionPipeline(
        vae=autoencoder(2),
        text_encoder=randomise(CLIPTextModel(text_config()), 3),
        tokenizer=tokenizer(16),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    words = folder / "tokenizer"
    (words / "tokenizer.json").unlink()
    (words / "vocab.json").write_text(json.dumps(vocabulary(), ensure_ascii=False) + "\n")
    (words / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    # What PNDM's config of the real model also holds.
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "clip_sample": False}, indent=2) + "\n")


def make_sd2(folder):
    """Stable Diffusion 2.1's shape: v-prediction, OpenCLIP, linear projections, heads by block; weights in fp16."""
    unet = randomise(
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16, 16),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=2,
            attention_head_dim=(1, 2, 4),
            cross_attention_dim=24,
            norm_num_groups=8,
            use_linear_projection=True,
            upcast_attention=True,
        ),
        4,
    )
    scheduler = DDIMScheduler(
        **STABLE_BETAS, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipe = StableDiffusionPipeline(
        vae=autoencoder(5),
        text_encoder=randomise(CLIPTextModel(text_config(hidden_size=24, hidden_act="gelu", num_hidden_layers=3)), 6),
        tokenizer=tokenizer(16, pad="!"),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(torch.float16).save_pretrained(folder)


def make_sdxl(folder):
    """SDXL's shape: two text encoders, pooled text and sizes, deeper transformers inside; weights in bf16."""
    unet = randomise(
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=40,
            norm_num_groups=4,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
        ),
        7,
    )
    scheduler = EulerDiscreteScheduler(**STABLE_BETAS, timestep_spacing="leading", steps_offset=1)
    second = text_config(hidden_size=24, hidden_act="gelu", projection_dim=20, num_hidden_layers=3, eos_token_id=2)
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder(8, use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False, scaling_factor=0.13025),
        text_encoder=randomise(CLIPTextModel(text_config()), 9),
        text_encoder_2=randomise(CLIPTextModelWithProjection(second), 10),
        tokenizer=tokenizer(16),
        tokenizer_2=tokenizer(16, pad="!"),
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    pipe.to(torch.bfloat16).save_pretrained(folder)
    # The config of the real model also has DDIM's options, and without them DDIM would clip: an unstable walk.
    path = folder / "scheduler" / "scheduler_config.json"
    more = {"clip_sample": False, "set_alpha_to_one": False}
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}, indent=2) + "\n")


def load(folder):
    index = json.loads((folder / "model_index.json").read_text())
    kind = StableDiffusionXLPipeline if "XL" in index["_class_name"] else StableDiffusionPipeline
    pipe = kind.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None) if kind is StableDiffusionPipeline else kind.from_pretrained(folder, torch_dtype=torch.float32, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def replace_noise(seed, first=1):
    """Makes the schedulers that add noise draw from `noise`, stream `first` on. Returns what draws."""
    from diffusers.schedulers import scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_dpmsolver_sde
    from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_lcm

    stream = [first]

    def draw(shape, **_):
        stream[0] += 1
        return noise(seed, stream[0] - 1, int(np.prod(shape))).reshape(shape)

    class RecordedPath:
        """A Brownian motion in sigma made of drawn increments, each from where the one before ended."""

        def __init__(self, x, *_):
            self.shape, self.end, self.values = x.shape, None, {}

        def __call__(self, sigma, sigma_next):
            sigma, sigma_next = float(sigma), float(sigma_next)
            if self.end is None or sigma not in self.values:
                self.end, self.values = sigma, {sigma: torch.zeros(self.shape, dtype=torch.float64)}
            increment = draw(self.shape).double() * (self.end - sigma_next) ** 0.5
            self.values[sigma_next] = self.values[self.end] + increment
            self.end = sigma_next
            return ((self.values[sigma_next] - self.values[sigma]) / (sigma - sigma_next) ** 0.5).float()

    for module in (scheduling_ddpm, scheduling_dpmsolver_multistep, scheduling_euler_ancestral_discrete, scheduling_lcm):
        module.randn_tensor = draw
    scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = RecordedPath
    return draw


def draw(pipe, base_config, case):
    kind, changes = {**SCHEDULERS, **LATER_SOLVERS, **LATER_SPACED}[case["scheduler"]]
    pipe.scheduler = kind.from_config(base_config, **changes)
    scale = pipe.vae_scale_factor
    shape = (1, pipe.unet.config.in_channels, case["height"] // scale, case["width"] // scale)
    replace_noise(case["seed"])
    latents = []

    def after_step(_pipe, _index, _timestep, values):
        latents.append(values["latents"].clone()[0])
        return values

    pipe(
        prompt=case["prompt"],
        negative_prompt=case["negative_prompt"] or None,
        width=case["width"],
        height=case["height"],
        num_inference_steps=case["steps"],
        guidance_scale=case["guidance_scale"],
        latents=noise(case["seed"], 0, int(np.prod(shape))).reshape(shape),
        output_type="latent",
        callback_on_step_end=after_step,
    )
    return torch.stack(latents)


def embeddings(pipe, prompt):
    if isinstance(pipe, StableDiffusionXLPipeline):
        hidden, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        return {"hidden": hidden, "pooled": pooled}
    hidden, _ = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    return {"hidden": hidden}


PROMPTS = [
    "a red cat and the FOX on  thing, it's",
    "",
    "naïve café 猫 🦊 don't and and and and and and and and and and and and and and and",
]


def golden(name, folder, out, guidance_scale, prompts):
    pipe = load(folder)
    base_config = pipe.scheduler.config
    scale = pipe.vae_scale_factor
    size = pipe.unet.config.sample_size * scale
    tensors, cases = {}, []

    def add(case_name, **changes):
        case = {
            "name": case_name,
            "prompt": prompts[0],
            "negative_prompt": "",
            "width": size,
            "height": size,
            "guidance_scale": guidance_scale,
            **changes,
        }
        latents = draw(pipe, base_config, case)
        assert torch.isfinite(latents).all(), case
        every = latents[0].numel() * 4 <= LATENT_BYTES_FOR_EVERY_STEP or case["steps"] == STEP_COUNTS[0]
        case["latents_of"] = "every step" if every else "last step"
        tensors[f"{case_name}/latents"] = latents if every else latents[-1:].clone()
        cases.append(case)
        return latents

    with torch.no_grad():
        for index, prompt in enumerate(prompts):
            for key, value in embeddings(pipe, prompt).items():
                tensors[f"prompt/{index}/{key}"] = value
        for scheduler in SCHEDULERS:
            for seed in SEEDS:
                for steps in STEP_COUNTS:
                    add(f"{scheduler}-{seed}-{steps}", scheduler=scheduler, seed=seed, steps=steps)
        final = add("negative", scheduler="ddim", seed=13, steps=5, negative_prompt="the fox")
        add("no-guidance", scheduler="euler", seed=13, steps=5, guidance_scale=1.0)
        # A size that does not halve evenly: the way up must go to the size of the skips.
        wide = -(-5 * size // 4 // 8) * 8
        add("odd-size", scheduler="euler", seed=13, steps=5, width=wide, height=-(-3 * size // 4 // 8) * 8)
        shift = getattr(pipe.vae.config, "shift_factor", None) or 0.0
        image = pipe.vae.decode(final[-1:] / pipe.vae.config.scaling_factor + shift, return_dict=False)[0]
        tensors["decoded"] = image
        encoded = pipe.vae.encode(image.clamp(-1, 1))
        encoded = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        tensors["encoded"] = (encoded - shift) * pipe.vae.config.scaling_factor
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{name}.safetensors")
    manifest = {
        "versions": versions(),
        "model": os.path.relpath(folder, out),
        "prompts": prompts,
        "cases": cases,
    }
    (out / f"{name}.json").write_text(json.dumps(manifest, indent=1) + "\n")


def scheduler_tables(out):
    """Timesteps, sigmas and walks with a stand-in model, for every option of the configs."""
    base = {"num_train_timesteps": 1000, **STABLE_BETAS}
    variants = {
        "stable": base,
        "linear": {**base, "beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        "cosine": {**base, "beta_schedule": "squaredcos_cap_v2"},
        "leading-offset": {**base, "timestep_spacing": "leading", "steps_offset": 1},
        "trailing": {**base, "timestep_spacing": "trailing"},
        "linspace": {**base, "timestep_spacing": "linspace"},
        "v": {**base, "prediction_type": "v_prediction", "timestep_spacing": "leading"},
        "sample": {**base, "prediction_type": "sample"},
        "zero-snr": {**base, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        "clip": {**base, "clip_sample": True, "clip_sample_range": 0.75},
        "no-clip": {**base, "clip_sample": False, "set_alpha_to_one": False},
        "sigma-min": {**base, "final_sigmas_type": "sigma_min"},
        "log-linear": {**base, "interpolation_type": "log_linear"},
        "heun": {**base, "solver_type": "heun"},
        "first-order": {**base, "solver_order": 1},
        "euler-at-final": {**base, "euler_at_final": True, "final_sigmas_type": "sigma_min"},
        "no-lower-order": {**base, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
        "lambda": {**base, "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1},
        "short": {**base, "num_train_timesteps": 250},
        "fixed-large": {**base, "variance_type": "fixed_large", "clip_sample": False},
        "bh1": {**base, "solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        "bare": {"num_train_timesteps": 1000, "clip_sample": False},
        "sigma-bounds": {**base, "sigma_min": 0.05, "sigma_max": 10.5},
    }
    later = ("fixed-large", "bh1", "sigma-bounds", "bare")
    cases = []
    for variant, config in variants.items():
        for name, (kind, changes) in SCHEDULERS.items():
            if variant in later:
                continue
            if name == "euler_ancestral" and config.get("prediction_type") == "sample":
                continue
            for steps in (1, 2, 7, 20, 33, 150):
                cases.append(table(variant, config, name, kind, changes, steps, (2, 7, 20)))
    for variant, config in variants.items():
        for name, (kind, changes) in LATER_SOLVERS.items():
            if variant not in LATER_VARIANTS + LATER_VARIANTS_OF.get(name, ()):
                continue
            if name == "dpmpp_sde" and config.get("prediction_type") == "sample":
                continue
            for steps in LATER_STEP_COUNTS:
                cases.append(table(variant, config, name, kind, changes, steps, (2, 7, 33)))
        for name, (kind, changes) in LATER_SPACED.items():
            if variant not in LATER_SPACED_VARIANTS:
                continue
            for steps in (1, 7, 33):
                cases.append(table(variant, config, name, kind, changes, steps, (7, 33)))
    text = json.dumps({"versions": versions(), "configs": variants}, indent=1)[:-2]
    lines = ",\n".join("  " + json.dumps(round_numbers(case)) for case in cases)
    (out / "schedulers.json").write_text(text + ',\n "cases": [\n' + lines + "\n ]\n}\n")


def table(variant, config, name, kind, changes, steps, walked):
    scheduler = kind.from_config({**config, "_class_name": kind.__name__}, **changes)
    scheduler.set_timesteps(steps)
    case = {
        "config": variant,
        "scheduler": name,
        "steps": steps,
        "timesteps": [float(value) for value in scheduler.timesteps],
        "init_noise_sigma": float(scheduler.init_noise_sigma),
    }
    if hasattr(scheduler, "sigmas"):
        case["sigmas"] = [float(value) for value in scheduler.sigmas]
    evaluations = steps if scheduler.order == 1 else 2 * steps - 1
    if len(case["timesteps"]) != evaluations or min(case["timesteps"]) < 0:
        raise SystemExit(f"the reference itself is broken here: {case}")
    if steps in walked:
        case["walk"] = walk(scheduler, 5)
        if name in LATER_SOLVERS:
            scheduler.set_timesteps(steps)
            case["other_seed_walk"] = walk(scheduler, 6)
        if not np.isfinite(case["walk"]).all():
            raise SystemExit(f"the reference itself is broken here: {case}")
    return case


def round_numbers(value):
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, list):
        return [round_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: round_numbers(item) for key, item in value.items()}
    return value


def walk(scheduler, seed):
    """The end of a walk on four numbers with the model `0.3 x - 0.2`; the added noise is `noise(seed, evaluation)`."""
    replace_noise(seed)
    # Otherwise it looks for its place by the timestep, and loses it where rounding makes two alike.
    scheduler.set_begin_index(0) if hasattr(scheduler, "set_begin_index") else None
    sample = torch.tensor([1.5, -0.5, 0.25, -2.0]).reshape(1, 1, 2, 2) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        output = scheduler.scale_model_input(sample, timestep) * 0.3 - 0.2
        sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
    return [float(value) for value in sample.flatten()]


def golden_later(name, folder, out):
    """What a model draws with the later solvers and spacings, after the last step."""
    pipe = load(folder)
    base_config = pipe.scheduler.config
    tensors, cases = {}, []
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    with torch.no_grad():
        for scheduler in [*LATER_SOLVERS, *LATER_SPACED]:
            for seed, steps in [(seed, steps) for seed in SEEDS for steps in (7, 33)] if scheduler in LATER_SOLVERS else [(11, 13)]:
                case = {
                    "name": f"{scheduler}-{seed}-{steps}",
                    "prompt": PROMPTS[0],
                    "negative_prompt": "",
                    "width": size,
                    "height": size,
                    "guidance_scale": 4.0,
                    "scheduler": scheduler,
                    "seed": seed,
                    "steps": steps,
                    "latents_of": "last step",
                }
                latents = draw(pipe, base_config, case)[-1:].clone()
                assert torch.isfinite(latents).all(), case
                tensors[f"{case['name']}/latents"] = latents
                cases.append(case)
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{name}-schedulers.safetensors")
    manifest = {"versions": versions(), "model": os.path.relpath(folder, out), "prompts": [], "cases": cases}
    (out / f"{name}-schedulers.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pocket", type=Path, help="make only the golden tensors of this model folder")
    arguments.add_argument("--out", type=Path, default=HERE, help="where to write")
    arguments.add_argument("--prompts", action="store_true", help="make only what tests the reading of prompts")
    arguments.add_argument("--schedulers", action="store_true", help="make only what tests the schedulers")
    arguments.add_argument("--loras", action="store_true", help="make only the LoRAs and what is drawn with them")
    arguments.add_argument("--single", action="store_true", help="make only the recipes of single files, of the models there")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.pocket:
        drawn = ["a fox on a green background, 3d style", "", "a red apple on a blue background"]
        golden("pocket", options.pocket.resolve(), options.out.resolve(), 3.0, drawn)
        return
    if options.prompts:
        prompts.make(options.out.resolve(), load, noise)
        return
    if options.loras:
        make_loras(options.out.resolve(), sys.modules[__name__])
        return
    if options.single:
        single.make(options.out.resolve())
        return
    scheduler_tables(options.out)
    if options.schedulers:
        golden_later("sd1", (options.out / "sd1").resolve(), options.out.resolve())
        return
    golden_images(options.out / "images")
    for name, make in {"sd1": make_sd1, "sd2": make_sd2, "sdxl": make_sdxl}.items():
        folder = options.out / name
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)
        golden(name, folder.resolve(), options.out.resolve(), 4.0, PROMPTS)
    golden_later("sd1", (options.out / "sd1").resolve(), options.out.resolve())
    make_loras(options.out.resolve(), sys.modules[__name__])
    prompts.make(options.out.resolve(), load, noise)
    single.make(options.out.resolve())
    # Here, for it needs what is above.
    from families import golden_families

    golden_families(options.out.resolve())


if __name__ == "__main__":
    main()
