"""Stage `export`: the finished folder in the diffusers layout, fp16."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

import bpe
from networks import make_autoencoder, make_schedule, make_text_encoder, make_unet
from vocabulary import COLOUR_SYNONYMS, COLOURS, OBJECTS, SCENES, STYLES

LIMIT = 25_000_000  # bytes of weights, tokenizer and configs together
PARTS = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
DEFAULTS = {"steps": 20, "guidance_scale": 3.0, "scheduler": "dpmpp_2m_karras"}
# Chosen by looking: these draw well with most seeds.
EXAMPLES = (
    "a red apple on a blue background",
    "a rocket under a starry night sky, 3d style",
    "a panda on an orange background, flat style",
    "a house in a green meadow, flat style",
    "a tiger on a teal background, cartoon style",
    "a ghost under a starry night sky",
    "a hamburger on a green background, flat style",
    "a smiley face on a purple background",
    "a palm tree on a beach, 3d style",
    "a blue heart on a pink background",
    "a rabbit on a blue background, flat style",
    "a robot on a yellow background, 3d style",
    "a sunflower on a teal background, 3d style",
    "a pumpkin on a black background, 3d style",
)


def vocabulary() -> dict:
    """What the model can draw, for people and programs that ask."""
    return {
        "objects": [
            {"name": item.name, "synonyms": list(item.synonyms)} for item in OBJECTS
        ],
        "styles": list(STYLES),
        "colours": [
            {"name": name, "rgb": list(value), "synonyms": list(COLOUR_SYNONYMS.get(name, ()))}
            for name, value in COLOURS.items()
        ],
        "scenes": [{"name": name, "phrases": list(words)} for name, words in SCENES.items()],
        "pairs": {"supported": True, "template": "{first} and {second}"},
        "templates": [
            "{object} on a {colour} background, {style} style",
            "{object} on a {colour} background",
            "{object}",
            "{object} {scene}, {style} style",
            "small {object} on a {colour} background, {style} style",
        ],
        "examples": list(EXAMPLES),
    }


def size_of(folder: Path) -> int:
    """Bytes of what a program has to carry along to draw."""
    files = [folder / "model_index.json", folder / "scumble.json", folder / "vocabulary.json"]
    for part in PARTS:
        files += (folder / part).iterdir()
    return sum(file.stat().st_size for file in files)


def export(work: Path, out: Path, draft: bool = False) -> None:
    """Writes the model to `out`. A draft takes the autoencoder as far as it is."""
    stored = torch.load(work / "checkpoints" / "average.pt", map_location="cpu")
    vocabulary_size = bpe.Encoder(work).size
    unet, text = make_unet(), make_text_encoder(vocabulary_size)
    unet.load_state_dict(stored["unet"])
    text.load_state_dict(stored["text"])
    autoencoder = make_autoencoder()
    name = "autoencoder-partial.pt" if draft else "autoencoder.pt"
    autoencoder.load_state_dict(torch.load(work / name, map_location="cpu"))

    out.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(str(work / "tokenizer")),
        unet=unet,
        scheduler=make_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(out)
    # The tokenizer's own files, not transformers' rewriting of them.
    shutil.rmtree(out / "tokenizer")
    shutil.copytree(work / "tokenizer", out / "tokenizer")
    restore_text_names(out / "text_encoder" / "model.safetensors")
    write_settings(out)
    size = size_of(out)
    print(f"exported {size:,} bytes to {out.name}/", flush=True)
    if size > LIMIT:
        raise SystemExit(f"the folder holds {size:,} bytes, over the limit of {LIMIT:,}")
    if not draft:
        (work / "exported").write_text("")


def write_settings(out: Path) -> None:
    """What any program may read beside the weights: defaults, examples, words."""
    settings = {"defaults": DEFAULTS, "examples": list(EXAMPLES), "vocabulary": "vocabulary.json"}
    for name, value in (("scumble.json", settings), ("vocabulary.json", vocabulary())):
        (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def restore_text_names(path: Path) -> None:
    """Puts back the `text_model.` prefix, which model hubs have and transformers 5 drops."""
    prefix = "text_model."
    tensors = load_file(path)
    named = {key if key.startswith(prefix) else prefix + key: t for key, t in tensors.items()}
    save_file(named, path, metadata={"format": "pt"})


def is_done(work: Path) -> bool:
    return (work / "exported").exists()
