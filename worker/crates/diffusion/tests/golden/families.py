"""What the reference draws from images and under masks, and with the shapes that families have: the data of
../families.rs.

    python families.py            # families/, families.json, families.safetensors

`families/<name>` holds only what differs from the tiny model that it is laid over, so that weights are shared. Noise is
fed in the order in which the reference asks for it. Needs what make.py needs.
"""

import argparse
import importlib
import json
import shutil
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    AutoencoderTiny,
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from make import HERE, LATER_SOLVERS, LATER_SPACED, PROMPTS, SCHEDULERS, STABLE_BETAS, noise, randomise, replace_noise, versions
from PIL import Image
from safetensors.torch import save_file

SIDE = 32
SEEDS = (11, 12)
SOLVERS = ("ddim", "euler", "dpmpp_2m_karras", "heun")
MORE_SOLVERS = ("euler_ancestral", "ddpm", "lms", "unipc", "dpmpp_2m_sde", "dpmpp_sde", "lcm", "dpmpp_2m", "euler_exponential")

SD1_UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": 16,
    "norm_num_groups": 4,
}
XL_UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 40,
    "norm_num_groups": 4,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 20 + 6 * 8,
}
TRAILING = {**STABLE_BETAS, "timestep_spacing": "trailing", "steps_offset": 1}

# What each family has of its own: the model under it, the pipeline's class, unet, scheduler, other fields of the index.
FAMILIES = {
    "sd1-inpaint": ("sd1", "StableDiffusionInpaintPipeline", {**SD1_UNET, "in_channels": 9}, None, {}),
    "sdxl-inpaint": ("sdxl", "StableDiffusionXLInpaintPipeline", {**XL_UNET, "in_channels": 9}, None, {}),
    "lcm": (
        "sd1",
        "LatentConsistencyModelPipeline",
        {**SD1_UNET, "time_cond_proj_dim": 24},
        LCMScheduler(**STABLE_BETAS, clip_sample=False, set_alpha_to_one=True),
        {},
    ),
    # SSD-1B's shape: depths that differ within a block and between the ways down and up, and no attention between.
    "ssd1b": (
        "sdxl",
        "StableDiffusionXLPipeline",
        {
            **XL_UNET,
            "block_out_channels": (8, 8, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (1, 2, 4),
            "mid_block_type": "UNetMidBlock2D",
            "transformer_layers_per_block": [0, [1], [2]],
            "reverse_transformer_layers_per_block": [[2, 3], [0, 1], 1],
        },
        None,
        {},
    ),
    # The smallest of the distilled Stable Diffusion 1: nothing between the ways down and up.
    "tiny-sd": ("sd1", "StableDiffusionPipeline", {**SD1_UNET, "mid_block_type": None}, None, {}),
    "sd-turbo": ("sd2", "StableDiffusionPipeline", None, EulerDiscreteScheduler(**TRAILING), {}),
    "sdxl-turbo": ("sdxl", "StableDiffusionXLPipeline", None, EulerAncestralDiscreteScheduler(**TRAILING), {}),
    # SDXL's refiner: the second text encoder alone, and a score of beauty where others have the target size.
    "refiner": (
        "sdxl",
        "StableDiffusionXLImg2ImgPipeline",
        {**XL_UNET, "cross_attention_dim": 24, "projection_class_embeddings_input_dim": 20 + 5 * 8},
        None,
        {"requires_aesthetics_score": True, "text_encoder": [None, None], "tokenizer": [None, None]},
    ),
}


def preview_autoencoder():
    """TAESD's shape: what decodes previews."""
    blocks = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    return randomise(AutoencoderTiny(**blocks, num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1)), 200)


def make_family(name, out):
    base, class_name, unet, scheduler, index = FAMILIES[name]
    folder = out / "families" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if unet:
        model = randomise(UNet2DConditionModel(**unet), 100 + list(FAMILIES).index(name))
        model.to(torch.float16).save_pretrained(folder / "unet")
    if name == "tiny-sd":
        preview_autoencoder().to(torch.float16).save_pretrained(folder / "vae_preview")
    if scheduler:
        scheduler.save_pretrained(folder / "scheduler")
        index = {**index, "scheduler": ["diffusers", type(scheduler).__name__]}
    manifest = json.loads((out / base / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**manifest, **index, "_class_name": class_name}, indent=2) + "\n")


def assembled(name, out, target):
    """The family laid over the model under it."""
    base, *_, index = FAMILIES.get(name, (name, {}))
    shutil.copytree(out / base, target)
    if name in FAMILIES:
        shutil.copytree(out / "families" / name, target, dirs_exist_ok=True)
    for component, value in index.items():
        if value == [None, None]:
            shutil.rmtree(target / component)
    return target


PIPELINES = (
    "stable_diffusion.pipeline_stable_diffusion",
    "stable_diffusion.pipeline_stable_diffusion_img2img",
    "stable_diffusion.pipeline_stable_diffusion_inpaint",
    "stable_diffusion_xl.pipeline_stable_diffusion_xl",
    "stable_diffusion_xl.pipeline_stable_diffusion_xl_img2img",
    "stable_diffusion_xl.pipeline_stable_diffusion_xl_inpaint",
    "latent_consistency_models.pipeline_latent_consistency_text2img",
    "latent_consistency_models.pipeline_latent_consistency_img2img",
)


def feed_noise(seed):
    """Makes everything draw from `noise`, stream 0 on, in the order of the calls."""
    draw = replace_noise(seed, first=0)
    for module in PIPELINES:
        importlib.import_module(f"diffusers.pipelines.{module}").randn_tensor = draw
    importlib.import_module("diffusers.models.autoencoders.vae").randn_tensor = draw


def pipeline(name, folder, task):
    kinds = {
        "text_to_image": AutoPipelineForText2Image,
        "image_to_image": AutoPipelineForImage2Image,
        "inpaint": AutoPipelineForInpainting,
    }
    kind = StableDiffusionInpaintPipeline if (name, task) == ("lcm", "inpaint") else kinds[task]
    options = {"torch_dtype": torch.float32, "safety_checker": None}
    if "xl" in name or name in ("ssd1b", "refiner"):
        options = {"torch_dtype": torch.float32, "add_watermarker": False}
    pipe = kind.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, base_config, case, pictures):
    solvers = {**SCHEDULERS, **LATER_SOLVERS, **LATER_SPACED}
    kind, changes = solvers[case["scheduler"]]
    pipe.scheduler = kind.from_config(base_config, **changes)
    feed_noise(case["seed"])
    latents = []

    def after_step(_pipe, index, _timestep, values):
        order = pipe.scheduler.order
        if (index + 1) % order == 0 or index + 1 == pipe._num_timesteps:
            latents.append(values["latents"].clone()[0])
        return values

    options = {
        "prompt": case["prompt"],
        "num_inference_steps": case["steps"],
        "guidance_scale": case["guidance_scale"],
        "output_type": "pil",
        "callback_on_step_end": after_step,
    }
    if "LatentConsistency" not in type(pipe).__name__:
        options["negative_prompt"] = case["negative_prompt"] or None
    if case["guidance_rescale"]:
        options["guidance_rescale"] = case["guidance_rescale"]
    if case["task"] == "text_to_image":
        options |= {"width": SIDE, "height": SIDE}
    else:
        image = pictures[case["image"]].resize((SIDE, SIDE), Image.LANCZOS)
        options |= {"image": image, "strength": case["strength"]}
    if case["task"] == "inpaint":
        mask = pictures[case["mask"]].resize((SIDE, SIDE), Image.LANCZOS)
        options |= {"mask_image": mask, "width": SIDE, "height": SIDE}
        if case["only_masked"] is not None:
            options["padding_mask_crop"] = case["only_masked"]
    drawn = pipe(**options).images[0]
    if case["task"] == "inpaint" and case["only_masked"] is None:
        drawn = pipe.image_processor.apply_overlay(mask, image, drawn)
    return torch.stack(latents), torch.from_numpy(np.array(drawn.convert("RGB")))


def pictures():
    """Something to start from and to cover it with: 8-bit pictures of two sizes."""
    def picture(seed, width, height, channels):
        coarse = noise(seed, 0, 25 * channels).reshape(5, 5, channels).numpy()
        coarse = np.clip(coarse * 60 + 128, 0, 255).astype(np.uint8)
        mode = "RGB" if channels == 3 else "L"
        return Image.fromarray(coarse.squeeze(), mode).resize((width, height), Image.BICUBIC)

    half = np.zeros((SIDE, SIDE), dtype=np.uint8)
    half[6:21, 9:26] = 255
    return {
        "square": picture(1, SIDE, SIDE, 3),
        "odd": picture(2, 45, 37, 3),
        "half": Image.fromarray(half, "L"),
        "soft": picture(3, SIDE, SIDE, 1),
    }


def cases(name):
    """What is drawn with a model."""
    base = {
        "prompt": PROMPTS[0],
        "negative_prompt": "",
        "guidance_scale": 4.0,
        "guidance_rescale": 0.0,
        "steps": 7,
        "strength": 0.6,
        "image": "square",
        "mask": "half",
        "only_masked": None,
    }
    is_inpainting = name.endswith("-inpaint")
    tasks = ["inpaint"] if is_inpainting else ["image_to_image", "inpaint"]
    few = {"guidance_scale": 0.0, "steps": 3, "strength": 0.7}
    if name in ("sd1", "sd2", "sdxl", "sd1-inpaint", "sdxl-inpaint"):
        for task in tasks:
            for scheduler in SOLVERS + (MORE_SOLVERS if name == "sd1" else ()):
                for seed in SEEDS:
                    yield {**base, "task": task, "scheduler": scheduler, "seed": seed}
            yield {**base, "task": task, "scheduler": "euler", "seed": 13, "strength": 1.0}
            yield {**base, "task": task, "scheduler": "ddim", "seed": 13, "steps": 13, "strength": 0.08, "guidance_scale": 1.0}
            yield {**base, "task": task, "scheduler": "heun", "seed": 13, "steps": 13, "strength": 0.95, "image": "odd", "mask": "soft"}
        yield {**base, "task": "inpaint", "scheduler": "euler", "seed": 14, "only_masked": 3}
    if name in ("sd1", "sdxl"):
        yield {**base, "task": "text_to_image", "scheduler": "ddim", "seed": 11, "guidance_rescale": 0.7}
    if name == "sdxl":
        yield {**base, "task": "image_to_image", "scheduler": "euler", "seed": 11, "guidance_rescale": 0.7}
    if name == "lcm":
        for task in ["text_to_image", *tasks]:
            for seed, steps in ((11, 4), (12, 7)):
                yield {**base, "task": task, "scheduler": "lcm", "seed": seed, "steps": steps, "guidance_scale": 8.5}
        yield {**base, "task": "text_to_image", "scheduler": "lcm", "seed": 13, "steps": 3, "guidance_scale": 1.0}
    if name in ("ssd1b", "tiny-sd"):
        for task in ["text_to_image", *tasks]:
            for seed in SEEDS:
                yield {**base, "task": task, "scheduler": "euler", "seed": seed}
    if name in ("sd-turbo", "sdxl-turbo"):
        scheduler = "euler" if name == "sd-turbo" else "euler_ancestral"
        for seed in SEEDS:
            yield {**base, **few, "task": "text_to_image", "scheduler": scheduler, "seed": seed, "steps": 1}
            yield {**base, **few, "task": "image_to_image", "scheduler": scheduler, "seed": seed, "steps": 2}
            yield {**base, **few, "task": "inpaint", "scheduler": scheduler, "seed": seed}
    if name == "refiner":
        for task in tasks:
            for seed in SEEDS:
                yield {**base, "task": task, "scheduler": "euler", "seed": seed}


def golden_families(out):
    given = pictures()
    tensors = {f"picture/{name}": torch.from_numpy(np.array(picture)) for name, picture in given.items()}
    models = []
    for name in ["sd1", "sd2", "sdxl", *FAMILIES]:
        if name in FAMILIES:
            make_family(name, out)
        with tempfile.TemporaryDirectory() as scratch:
            folder = assembled(name, out, Path(scratch) / name)
            pipes, drawn = {}, []
            for case in cases(name):
                task = case["task"]
                if task not in pipes:
                    pipe = pipeline(name, folder, task)
                    pipes[task] = (pipe, pipe.scheduler.config)
                with torch.no_grad():
                    latents, image = draw(*pipes[task], case, given)
                assert torch.isfinite(latents).all(), (name, case)
                key = f"{name}/{len(drawn)}"
                # One seed's every step tells where a difference begins, another's last one that it is no chance.
                first = case["seed"] == SEEDS[0]
                case["steps_run"] = len(latents)
                case["latents_of"] = "every step" if first else "last step"
                tensors[f"{key}/latents"] = latents if first else latents[-1:].clone()
                if case["seed"] != SEEDS[1]:
                    tensors[f"{key}/image"] = image
                if (folder / "vae_preview").is_dir() and first and task != "inpaint":
                    # After the last step nothing is left to be expected but the latents themselves.
                    preview = AutoencoderTiny.from_pretrained(folder / "vae_preview", torch_dtype=torch.float32)
                    with torch.no_grad():
                        decoded = preview.decode(latents[-1:] / preview.config.scaling_factor).sample
                    pixels = pipe.image_processor.postprocess(decoded, output_type="np")[0]
                    tensors[f"{key}/preview"] = torch.from_numpy((pixels * 255).round().astype("uint8"))
                drawn.append(case)
        base, *_, index = FAMILIES.get(name, (name, {}))
        without = [component for component, value in index.items() if value == [None, None]]
        models.append({"name": name, "base": base, "without": without, "cases": drawn})
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / "families.safetensors")
    lines = ",\n".join(model_lines(model) for model in models)
    (out / "families.json").write_text(f'{{"versions": {json.dumps(versions())}, "models": [\n{lines}\n]}}\n')


def model_lines(model):
    head = json.dumps({key: value for key, value in model.items() if key != "cases"})[:-1]
    return head + ', "cases": [\n ' + ",\n ".join(json.dumps(case) for case in model["cases"]) + "\n]}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=HERE, help="where the tiny models are and where to write")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    diffusers.logging.set_verbosity_error()
    golden_families(options.out.resolve())


if __name__ == "__main__":
    main()
