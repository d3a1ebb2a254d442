"""Makes Stable Diffusion 1.5 and SDXL at their real sizes, with random weights, as diffusers folders in f16.

    python3 full_size_models.py OUT [sd15] [sdxl]

What they draw is noise; what they cost to load and to run is what the real ones cost. A folder that is complete is left
alone.
"""

import shutil
import sys
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
# Every byte a token, which is all that a cost needs.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
LETTERS = [chr(byte) for byte in PRINTABLE] + [chr(256 + index) for index in range(256 - len(PRINTABLE))]
WORDS = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]


def randomised(kind, config, seed):
    """The model in f16; weights small enough that twenty steps stay finite."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float16)
    with torch.device("meta"):
        model = kind(config) if isinstance(config, CLIPTextConfig) else kind(**config)
    torch.set_default_dtype(torch.float32)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5 / parameter[0].numel() ** 0.5)
            else:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for name, buffer in model.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1]).view_as(buffer))
    return model.eval()


def tokenizer():
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def text(width, layers, heads, activation):
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=activation,
        projection_dim=width,
        bos_token_id=len(WORDS) - 2,
        eos_token_id=len(WORDS) - 1,
        pad_token_id=len(WORDS) - 1,
    )


def autoencoder(scaling_factor, sample_size):
    return {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
    }


def make_sd15(folder):
    unet = {
        "sample_size": 64,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
    }
    StableDiffusionPipeline(
        vae=randomised(AutoencoderKL, autoencoder(0.18215, 512), 1),
        text_encoder=randomised(CLIPTextModel, text(768, 12, 12, "quick_gelu"), 2),
        tokenizer=tokenizer(),
        unet=randomised(UNet2DConditionModel, unet, 3),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def make_sdxl(folder):
    unet = {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    StableDiffusionXLPipeline(
        vae=randomised(AutoencoderKL, autoencoder(0.13025, 1024), 1),
        text_encoder=randomised(CLIPTextModel, text(768, 12, 12, "quick_gelu"), 2),
        text_encoder_2=randomised(CLIPTextModelWithProjection, text(1280, 32, 20, "gelu"), 4),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=randomised(UNet2DConditionModel, unet, 3),
        scheduler=EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    ).save_pretrained(folder)


def main():
    out = Path(sys.argv[1])
    makers = {"sd15": make_sd15, "sdxl": make_sdxl}
    for name in sys.argv[2:] or makers:
        folder, partial = out / name, out / f"{name}.partial"
        if folder.is_dir():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        makers[name](partial)
        partial.rename(folder)
        print(f"made {name}", flush=True)


if __name__ == "__main__":
    main()
