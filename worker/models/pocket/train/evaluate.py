"""Stage `evaluate`: draws held-out prompts with diffusers' own pipeline and judges them."""

import json
import random
import time
from pathlib import Path

import torch
from PIL import Image
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

import compose
import editing
import recognise
from captions import Spec, plain_caption
from vocabulary import BACKGROUNDS, COLOURS, OBJECT_NAMES, SCENES, STYLES, held_out_combinations

SEED = 31
PER_OBJECT = 4
PAIRS = 60
SCENE_PICTURES = 40
GUIDANCE = 3.0
BATCH = 24
STYLE_NAMES = tuple(STYLES)


def choose_specs() -> tuple[list[Spec], list[Spec], list[Spec]]:
    """Held-out singles on colours, singles in scenes, and pairs."""
    rng = random.Random(SEED)
    combinations = held_out_combinations()
    rng.shuffle(combinations)
    plain: list[Spec] = []
    taken = dict.fromkeys(OBJECT_NAMES, 0)
    for name, style, background in combinations:
        if background in COLOURS and taken[name] < PER_OBJECT:
            taken[name] += 1
            plain.append(Spec(name, style, background))
    scenes = [Spec(*item) for item in combinations if item[2] in SCENES][:SCENE_PICTURES]
    pairs: list[Spec] = []
    while len(pairs) < PAIRS:
        first, second = rng.sample(OBJECT_NAMES, 2)
        spec = Spec(first, rng.choice(STYLE_NAMES), rng.choice(list(COLOURS)), second)
        if spec.held_out:
            pairs.append(spec)
    return plain, scenes, pairs


def load_pipeline(folder: Path, device: torch.device) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def use_dpmpp(pipeline: StableDiffusionPipeline) -> None:
    """DPM++ 2M with Karras' noise levels, on the folder's own betas."""
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, use_karras_sigmas=True, algorithm_type="dpmsolver++"
    )


def draw(pipeline, prompts: list[str], steps: int = 20, guidance: float = GUIDANCE) -> torch.Tensor:
    """Pictures in -1..1; picture n has noise seed n."""
    parts = []
    for start in range(0, len(prompts), BATCH):
        chosen = prompts[start : start + BATCH]
        seeds = [torch.Generator().manual_seed(start + index) for index in range(len(chosen))]
        found = pipeline(
            chosen,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=seeds,
            output_type="pt",
        ).images
        parts.append(found.float().cpu() * 2 - 1)
    return torch.cat(parts)


@torch.no_grad()
def judge_singles(judge: recognise.Recogniser, pictures: torch.Tensor, specs: list[Spec]) -> dict:
    objects, styles, backgrounds = judge(recognise.shrink(pictures))
    wanted = torch.tensor([OBJECT_NAMES.index(spec.first) for spec in specs])
    first_five = objects.topk(5).indices
    hit = first_five[:, 0] == wanted
    style = torch.tensor([STYLE_NAMES.index(spec.style) for spec in specs])
    plain = [index for index, spec in enumerate(specs) if spec.background in COLOURS]
    scene = [index for index, spec in enumerate(specs) if spec.background in SCENES]
    result = {
        "pictures": len(specs),
        "object_top1": share(hit.tolist()),
        "object_top5": share((first_five == wanted[:, None]).any(1).tolist()),
        "style": share((styles.argmax(1) == style).tolist()),
    }
    for name in STYLE_NAMES:
        rows = [index for index, spec in enumerate(specs) if spec.style == name]
        result[f"object_top1_{name}"] = share(hit[rows].tolist())
    if plain:
        result["background"] = share(
            [recognise.border_colour(pictures[i]) == specs[i].background for i in plain]
        )
    if scene:
        found = backgrounds.argmax(1).tolist()
        result["scene"] = share([BACKGROUNDS[found[i]] == specs[i].background for i in scene])
    return result


@torch.no_grad()
def judge_pairs(judge: recognise.Recogniser, pictures: torch.Tensor, specs: list[Spec]) -> dict:
    sides = [
        judge(recognise.shrink(half))[0].argmax(1).tolist() for half in recognise.halves(pictures)
    ]
    found = [
        (OBJECT_NAMES[left], OBJECT_NAMES[right]) for left, right in zip(*sides, strict=True)
    ]
    return {
        "pictures": len(specs),
        "in_order": share([pair == spec.names for pair, spec in zip(found, specs, strict=True)]),
        "both_found": share(
            [set(pair) == set(spec.names) for pair, spec in zip(found, specs, strict=True)]
        ),
        "one_found": share(
            [bool(set(pair) & set(spec.names)) for pair, spec in zip(found, specs, strict=True)]
        ),
        "background": share(
            [
                recognise.border_colour(picture) == spec.background
                for picture, spec in zip(pictures, specs, strict=True)
            ]
        ),
    }


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """A sheet as WebP: palettes draw false edges, and a PNG is five times as large."""
    sheet.save(path, quality=88, method=6)


def share(hits: list[bool]) -> float:
    return round(sum(hits) / max(1, len(hits)), 4)


def misses(judge, pictures: torch.Tensor, specs: list[Spec]) -> list[str]:
    """Sentences that failed, with what the recogniser saw instead."""
    with torch.no_grad():
        found = judge(recognise.shrink(pictures))[0].argmax(1).tolist()
    return [
        f"{plain_caption(spec)} -> {OBJECT_NAMES[index]}"
        for spec, index in zip(specs, found, strict=True)
        if OBJECT_NAMES[index] != spec.first
    ]


@torch.no_grad()
def ceiling(pipeline, judge, work: Path, singles: list[Spec], pairs: list[Spec]) -> dict:
    """The same judgement on true composites that went through the folder's autoencoder."""
    rng = random.Random(SEED)
    sprites = compose.Sprites(work)
    codec = pipeline.vae

    def through(specs: list[Spec]) -> torch.Tensor:
        parts = []
        for start in range(0, len(specs), BATCH):
            true = compose.render(sprites, specs[start : start + BATCH], rng).to(codec.device)
            parts.append(codec.decode(codec.encode(true).latents).sample.clamp(-1, 1).cpu())
        return torch.cat(parts)

    return {
        "singles": judge_singles(judge, through(singles), singles),
        "pairs": judge_pairs(judge, through(pairs), pairs),
    }


def evaluate(work: Path, folder: Path, device: torch.device) -> None:
    """Writes `evaluation.json`, `evaluation.webp` and `editing.webp` beside the model."""
    judge = recognise.load(work)
    pipeline = load_pipeline(folder, device)
    plain, scenes, pairs = choose_specs()
    prompts = [plain_caption(spec) for spec in plain]
    report: dict = {
        "prompts": "combinations of object, style and background that training never showed",
        "guidance_scale": GUIDANCE,
        "objects": len(OBJECT_NAMES),
        "chance_object_top1": round(1 / len(OBJECT_NAMES), 4),
    }
    began = time.monotonic()
    pictures = draw(pipeline, prompts)
    report["seconds_per_picture"] = round((time.monotonic() - began) / len(prompts), 3)
    report["ddim_20"] = judge_singles(judge, pictures, plain)
    report["labels_rolled"] = judge_singles(judge, pictures, plain[1:] + plain[:1])
    report["scenes"] = judge_singles(
        judge, draw(pipeline, [plain_caption(spec) for spec in scenes]), scenes
    )
    report["pairs"] = judge_pairs(
        judge, draw(pipeline, [plain_caption(spec) for spec in pairs]), pairs
    )
    report["ceiling"] = ceiling(pipeline, judge, work, plain, pairs)
    report["misses"] = misses(judge, pictures, plain)
    rows = sorted(random.Random(SEED).sample(range(len(plain)), 64))
    sheet = compose.contact_sheet(pictures[rows], 8)
    save_sheet(sheet, folder / "evaluation.webp")
    report["sheet"] = [prompts[row] for row in rows]
    report["editing"], sheet = editing.measure(pipeline, judge, work, GUIDANCE, BATCH)
    save_sheet(sheet, folder / "editing.webp")
    use_dpmpp(pipeline)
    for steps in (20, 12, 8):
        found = draw(pipeline, prompts, steps)
        report[f"dpmpp_2m_karras_{steps}"] = judge_singles(judge, found, plain)
        sheet = compose.contact_sheet(found[rows], 8)
        sheet.save(work / f"sheet-dpmpp-{steps}.png")
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (folder / "evaluation.json").write_text(text + "\n", "utf-8")
    (work / "evaluated").write_text("")
    print(text, flush=True)


def is_done(work: Path) -> bool:
    return (work / "evaluated").exists()
