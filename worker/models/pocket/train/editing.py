"""Measures editing: image to image, and inpainting, with diffusers' own pipelines.

Every test starts from a true composite, asks for another object on the same
background in the same style, and reads the answer with the recognisers of
`recognise.py`. The asked combination is one that training never showed.
"""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline

import compose
import recognise
from captions import Spec, plain_caption
from vocabulary import COLOURS, OBJECT_NAMES, held_out_combinations

SEED = 77
COUNT = 48  # pictures a test
STEPS = 20
STRENGTH = 0.6
CELL = 16  # pixels of a place in the latents: holes end where places do
VISIBLE = 0.25  # RGB distance (of sqrt 12, pictures in -1..1) of an object from its background
CENTRE_TOLERANCE = 0.10  # of the picture's side
SIZE_TOLERANCE = 1.5  # times as large or as small
SHOWN = 8  # of each test in the grid


@dataclass
class Edits:
    """What a test starts from and asks for; pictures are n×3×SIZE×SIZE in -1..1."""

    starts: list[Spec]
    wanted: list[Spec]
    pictures: torch.Tensor
    true: torch.Tensor  # what a perfect answer looks like: the same seed, the wanted object
    masks: torch.Tensor | None = None  # n×1×SIZE×SIZE, 1 where to repaint
    sides: list[int] | None = None  # of a pair's hole: 0 left, 1 right


def _starts(wanted: list[Spec], rng: random.Random) -> list[Spec]:
    """The wanted pictures with another object each."""
    return [
        replace(spec, first=rng.choice([name for name in OBJECT_NAMES if name != spec.first]))
        for spec in wanted
    ]


def _render(sprites: compose.Sprites, specs: list[Spec]) -> torch.Tensor:
    """Each picture from its own seed: equal places and colours for equal numbers."""
    return torch.cat(
        [compose.render(sprites, [spec], random.Random(SEED + n)) for n, spec in enumerate(specs)]
    )


def image_edits(sprites: compose.Sprites, small: bool) -> Edits:
    rng = random.Random(SEED + small)
    held = [item for item in held_out_combinations() if item[2] in COLOURS]
    wanted = [Spec(*item, small=small) for item in rng.sample(held, COUNT)]
    starts = _starts(wanted, rng)
    return Edits(starts, wanted, _render(sprites, starts), _render(sprites, wanted))


def hole_edits(sprites: compose.Sprites) -> Edits:
    """A small object with a hole over it that reaches a little beyond."""
    edits = image_edits(sprites, small=True)
    edits.masks = torch.zeros(COUNT, 1, compose.SIZE, compose.SIZE)
    both = visible(edits.pictures) | visible(edits.true)
    for mask, seen in zip(edits.masks, both, strict=True):
        top, bottom, left, right = (
            edge
            for axis in (1, 0)
            for edge in _span(seen.any(axis))
        )
        mask[:, top:bottom, left:right] = 1
    return edits


def _span(seen: torch.Tensor) -> tuple[int, int]:
    """The cells that hold a row or column of an object, as first and last pixel."""
    places = seen.nonzero().flatten().tolist() or [compose.SIZE // 4, 3 * compose.SIZE // 4]
    return max(0, places[0] - 2) // CELL * CELL, min(
        compose.SIZE, -(-(places[-1] + 3) // CELL) * CELL
    )


def half_edits(sprites: compose.Sprites) -> Edits:
    """A pair with one half repainted."""
    rng = random.Random(SEED + 2)
    held = [item for item in held_out_combinations() if item[2] in COLOURS]
    starts, wanted, sides = [], [], []
    for number, (name, style, background) in enumerate(rng.sample(held, COUNT)):
        kept, old = rng.sample([other for other in OBJECT_NAMES if other != name], 2)
        side = number % 2
        pairs = [(new, kept) if side == 0 else (kept, new) for new in (old, name)]
        start, asked = (Spec(first, style, background, second) for first, second in pairs)
        starts.append(start), wanted.append(asked), sides.append(side)
    masks = torch.zeros(COUNT, 1, compose.SIZE, compose.SIZE)
    middle = compose.SIZE // 2
    for mask, side in zip(masks, sides, strict=True):
        mask[:, :, side * middle : (side + 1) * middle] = 1
    return Edits(starts, wanted, _render(sprites, starts), _render(sprites, wanted), masks, sides)


def border(pictures: torch.Tensor) -> torch.Tensor:
    """Median colour of every picture's two-pixel border, n×3×1×1."""
    edges = (pictures[:, :, :2], pictures[:, :, -2:], pictures[..., :2], pictures[..., -2:])
    edge = torch.cat([part.flatten(2) for part in edges], 2)
    return edge.median(2).values[..., None, None]


def visible(pictures: torch.Tensor) -> torch.Tensor:
    """Where a picture differs from its border's colour, n×SIZE×SIZE."""
    distance = (pictures - border(pictures)).square().sum(1).sqrt() / 12**0.5
    return distance > VISIBLE / 2


def composition(found: torch.Tensor, start: torch.Tensor) -> bool:
    """Whether two masks agree on where an object stands and how large it is."""
    if not found.any() or not start.any():
        return False
    (low, high), (low_then, high_then) = box(found), box(start)
    apart = float((low + high - low_then - high_then).float().norm()) / 2 / compose.SIZE
    ratio = float((high - low).max() / (high_then - low_then).max())
    return apart <= CENTRE_TOLERANCE and 1 / SIZE_TOLERANCE <= ratio <= SIZE_TOLERANCE


def box(seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First and one past the last (row, column) of a mask that is not empty."""
    places = seen.nonzero()
    return places.min(0).values, places.max(0).values + 1


def close_up(picture: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The object at the size recognisers know, on its own background's colour."""
    if not seen.any():
        return picture[None]
    low, high = box(seen)
    side = round(max((high - low).tolist()) / 0.86)
    padded = border(picture[None]).expand(1, 3, 3 * compose.SIZE, 3 * compose.SIZE).clone()
    size = compose.SIZE
    padded[..., size : 2 * size, size : 2 * size] = picture
    top, left = ((low + high) // 2 + size - side // 2).tolist()
    return padded[..., top : top + side, left : left + side]


def share(hits: list[bool]) -> float:
    return round(sum(hits) / max(1, len(hits)), 4)


@torch.no_grad()
def named(judge: recognise.Recogniser, cuts: list[torch.Tensor]) -> list[str]:
    small = torch.cat([recognise.shrink(cut) for cut in cuts])
    return [OBJECT_NAMES[index] for index in judge(small)[0].argmax(1).tolist()]


def objects_of(judge: recognise.Recogniser, edits: Edits, pictures: torch.Tensor) -> list[str]:
    """What stands where the edit asked for something."""
    if edits.sides is not None:
        cuts = recognise.halves(pictures)
        return named(judge, [cuts[side][n : n + 1] for n, side in enumerate(edits.sides)])
    seen = visible(pictures)
    if edits.masks is not None:
        seen = seen & (edits.masks[:, 0] > 0)
    return named(
        judge,
        [
            close_up(picture, mask) if spec.small else picture[None]
            for picture, mask, spec in zip(pictures, seen, edits.wanted, strict=True)
        ],
    )


def judge_edits(judge: recognise.Recogniser, edits: Edits, pictures: torch.Tensor) -> dict:
    asked = [spec.names[edits.sides[n] if edits.sides else 0] for n, spec in enumerate(edits.wanted)]
    found = objects_of(judge, edits, pictures)
    result = {
        "pictures": COUNT,
        "object": share([a == b for a, b in zip(found, asked, strict=True)]),
        "background": share(
            [
                recognise.border_colour(picture) == spec.background
                for picture, spec in zip(pictures, edits.wanted, strict=True)
            ]
        ),
    }
    if edits.sides is not None:
        cuts = recognise.halves(pictures)
        others = named(judge, [cuts[1 - side][n : n + 1] for n, side in enumerate(edits.sides)])
        kept = [spec.names[1 - side] for spec, side in zip(edits.wanted, edits.sides, strict=True)]
        result["other_kept"] = share([a == b for a, b in zip(others, kept, strict=True)])
    else:
        pairs = zip(visible(pictures), visible(edits.pictures), strict=True)
        result["composition"] = share([composition(now, then) for now, then in pairs])
    if edits.masks is not None:
        result["continued"] = share(continued(edits, pictures))
        outside = 1 - edits.masks
        error = ((pictures - edits.pictures) * outside).square().sum() / (3 * outside.sum())
        result["outside_rmse_of_255"] = round(float(error.sqrt()) * 127.5, 1)
    return result


def continued(edits: Edits, pictures: torch.Tensor) -> list[bool]:
    """Whether the background goes on from outside the hole to just inside its edge."""
    inner = -torch.nn.functional.max_pool2d(-edits.masks, 9, stride=1, padding=4)
    ring = (edits.masks - inner)[:, 0] > 0
    return [
        recognise.nearest_colour(picture[:, where].median(1).values) == spec.background
        for picture, where, spec in zip(pictures, ring, edits.wanted, strict=True)
    ]


def _run(pipeline, edits: Edits, batch: int, **options) -> torch.Tensor:
    parts = []
    for first in range(0, COUNT, batch):
        rows = slice(first, min(COUNT, first + batch))
        wanted = edits.wanted[rows]
        if edits.masks is not None:
            options["mask_image"] = edits.masks[rows]
        drawn = pipeline(
            [plain_caption(spec) for spec in wanted],
            image=(edits.pictures[rows] + 1) / 2,
            generator=[torch.Generator().manual_seed(first + n) for n in range(len(wanted))],
            output_type="pt",
            **options,
        ).images
        parts.append(drawn.float().cpu() * 2 - 1)
    return torch.cat(parts)


@torch.no_grad()
def _through(codec, pictures: torch.Tensor) -> torch.Tensor:
    coded = codec.encode(pictures.to(codec.device)).latents
    return codec.decode(coded).sample.clamp(-1, 1).cpu()


def with_hole(edits: Edits) -> torch.Tensor:
    """The start as a person sees it: the hole is a plain mid-gray."""
    return edits.pictures if edits.masks is None else edits.pictures * (1 - edits.masks)


def measure(pipeline, judge, work: Path, guidance: float, batch: int):
    """A report, and a grid of starts over answers.

    `pipeline` is a text-to-image pipeline; its parts are used as they are.
    """
    sprites = compose.Sprites(work)
    settings = {"strength": STRENGTH, "num_inference_steps": STEPS, "guidance_scale": guidance}
    report: dict = dict(settings)
    rows = []
    # diffusers paints into holes for denoisers of 4 or 9 channels only, by the
    # number in the configuration; nothing else there depends on it.
    channels = pipeline.unet.config.in_channels
    pipeline.unet.register_to_config(in_channels=4)
    for name, edits in (
        ("image_to_image", image_edits(sprites, small=False)),
        ("image_to_image_small", image_edits(sprites, small=True)),
        ("inpaint_object", hole_edits(sprites)),
        ("inpaint_half_of_pair", half_edits(sprites)),
    ):
        if edits.masks is None:
            editor, options = StableDiffusionImg2ImgPipeline, settings
        else:
            editor, options = StableDiffusionInpaintPipeline, settings | {"strength": 1.0}
        editor = editor(**pipeline.components, requires_safety_checker=False)
        editor.set_progress_bar_config(disable=True)
        found = _run(editor, edits, batch, **options)
        report[name] = judge_edits(judge, edits, found)
        report[name]["ceiling"] = judge_edits(judge, edits, _through(pipeline.vae, edits.true))
        report[name]["prompts"] = [plain_caption(spec) for spec in edits.wanted[:SHOWN]]
        rows += [with_hole(edits)[:SHOWN], found[:SHOWN]]
    pipeline.unet.register_to_config(in_channels=channels)
    return report, compose.contact_sheet(torch.cat(rows), SHOWN)
