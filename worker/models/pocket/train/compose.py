"""Draws training pictures: icons over plain colours or scenes.

All pictures are float tensors, channels first, in -1..1, `SIZE` pixels square.
"""

import math
import random
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from PIL import Image

from captions import Spec
from vocabulary import COLOURS, OBJECT_NAMES, SCENES, STYLES

SIZE = 128
RASTER_SIZE = 128
SCALE_RANGE = (0.80, 0.88)  # side of a single object's box, in picture sides
PAIR_SCALE = 0.47
SMALL_SCALE = (0.48, 0.58)  # of a small object
SMALL_SHIFT = 0.16  # how far it may stand from the middle
SHIFT = 2.0 / SIZE  # how far a box strays from its place, in picture sides
COLOUR_JITTER = 8  # of 255, per channel
OUTLINE_SHARE = 0.2  # of an icon's rim that may vanish into the background
OUTLINE_DISTANCE = 0.28  # RGB distance (of sqrt 3) under which a rim vanishes


class Sprites:
    """Every icon, premultiplied RGBA in 0..1, at full and at half size."""

    def __init__(self, work: Path) -> None:
        rows = []
        self.row: dict[tuple[str, str], int] = {}
        for index, name in enumerate(OBJECT_NAMES):
            for style in STYLES:
                self.row[name, style] = len(rows)
                image = Image.open(work / "sprites" / f"{index}-{style}.png").convert("RGBa")
                rows.append(numpy.asarray(image).copy())
        stack = torch.from_numpy(numpy.stack(rows))
        self.full = stack.permute(0, 3, 1, 2).float() / 255
        # Pairs are drawn at less than half size: sample them from a smaller
        # copy so that nothing is skipped between pixels.
        self.half = F.avg_pool2d(self.full, 2)
        self.outline = self._outline_table()

    def _outline_table(self) -> dict[tuple[int, str], float]:
        """Brightness of the outline an icon needs on a colour; absent for none."""
        alpha = self.full[:, 3:]
        solid = (alpha > 0.5).float()
        core = 1 - F.max_pool2d(1 - solid, 9, stride=1, padding=4)
        rim = (solid - core)[:, 0]
        colour = self.full[:, :3] / alpha.clamp(min=1e-3)
        table = {}
        for name, value in COLOURS.items():
            background = torch.tensor(value).view(1, 3, 1, 1) / 255
            near = ((colour - background).square().sum(1).sqrt() < OUTLINE_DISTANCE).float()
            share = (near * rim).sum((1, 2)) / rim.sum((1, 2))
            light = sum(value) / 3 > 200
            for row in (share > OUTLINE_SHARE).nonzero().flatten().tolist():
                table[row, name] = 0.45 if light else 0.97
        return table


def placement(centre_x: float, centre_y: float, scale: float) -> list[list[float]]:
    """Rows of the affine map from picture to icon coordinates (both -1..1)."""
    return [
        [1 / scale, 0.0, -(2 * centre_x - 1) / scale],
        [0.0, 1 / scale, -(2 * centre_y - 1) / scale],
    ]


def _vertical(stops: list[tuple[float, tuple[float, float, float]]]) -> torch.Tensor:
    """A vertical colour gradient through (height 0..1, RGB 0..1) stops."""
    heights = numpy.linspace(0, 1, SIZE)
    channels = [
        numpy.interp(heights, [at for at, _ in stops], [colour[c] for _, colour in stops])
        for c in range(3)
    ]
    column = torch.from_numpy(numpy.stack(channels)).float()
    return column.view(3, SIZE, 1).expand(3, SIZE, SIZE).clone()


def _ground(picture: torch.Tensor, rng: random.Random, horizon: float, wave: float, colours) -> None:
    """Paints a wavy ground below `horizon`, shaded between two colours."""
    y = torch.linspace(0, 1, SIZE).view(SIZE, 1)
    x = torch.linspace(0, 1, SIZE).view(1, SIZE)
    edge = horizon + wave * torch.sin(2 * math.pi * (x + rng.random()))
    depth = ((y - edge) / (1 - horizon)).clamp(0, 1)
    near, far = (torch.tensor(colour).view(3, 1, 1) for colour in colours)
    cover = ((y - edge) * SIZE).clamp(0, 1)
    picture.copy_(picture * (1 - cover) + (near * (1 - depth) + far * depth) * cover)


def background(rng: random.Random, name: str) -> torch.Tensor:
    """A plain colour with a little jitter, or one of the scenes (0..1)."""
    if name not in SCENES:
        jittered = [
            min(255, max(0, value + rng.randint(-COLOUR_JITTER, COLOUR_JITTER)))
            for value in COLOURS[name]
        ]
        return (torch.tensor(jittered).view(3, 1, 1) / 255).expand(3, SIZE, SIZE).clone()
    if name == "night":
        picture = _vertical([(0, (0.03, 0.04, 0.17)), (1, (0.14, 0.12, 0.36))])
        for _ in range(14):
            x, y = rng.randint(2, SIZE - 4), rng.randint(2, SIZE - 4)
            picture[:, y : y + 2, x : x + 2] = 0.75 + 0.2 * rng.random()
        return picture
    if name == "sunset":
        picture = _vertical([(0, (0.42, 0.25, 0.55)), (0.4, (0.95, 0.45, 0.4)), (0.75, (1, 0.78, 0.4))])
        _ground(picture, rng, 0.74 + 0.03 * rng.random(), 0.015, ((0.30, 0.17, 0.32), (0.16, 0.10, 0.22)))
        return picture
    picture = _vertical([(0, (0.42, 0.70, 0.98)), (0.7, (0.74, 0.90, 1.0))])
    if name == "meadow":
        _ground(picture, rng, 0.66 + 0.04 * rng.random(), 0.025, ((0.45, 0.78, 0.32), (0.27, 0.60, 0.22)))
        return picture
    sea = 0.55 + 0.02 * rng.random()
    _ground(picture, rng, sea, 0.0, ((0.16, 0.55, 0.80), (0.30, 0.75, 0.85)))
    _ground(picture, rng, sea + 0.16, 0.015, ((0.97, 0.89, 0.68), (0.92, 0.80, 0.55)))
    return picture


def _paste(picture: torch.Tensor, sheet: torch.Tensor, places, outlines) -> torch.Tensor:
    """Lays one icon over every picture, where asked with an outline under it."""
    grid = F.affine_grid(torch.tensor(places), [len(places), 4, SIZE, SIZE], align_corners=False)
    layer = F.grid_sample(sheet, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    rows = [index for index, level in enumerate(outlines) if level is not None]
    if rows:
        halo = F.avg_pool2d(F.max_pool2d(layer[rows, 3:], 7, stride=1, padding=3), 3, 1, 1)
        level = torch.tensor([outlines[index] for index in rows]).view(-1, 1, 1, 1)
        picture[rows] = picture[rows] * (1 - halo) + level * halo
    return picture * (1 - layer[:, 3:]) + layer[:, :3]


def render(
    sprites: Sprites,
    specs: list[Spec],
    rng: random.Random,
    scale_range: tuple[float, float] = SCALE_RANGE,
    shift: float = SHIFT,
) -> torch.Tensor:
    """Pictures of the specifications, n×3×SIZE×SIZE in -1..1."""

    def stray() -> float:
        return rng.uniform(-shift, shift)

    def outline(spec: Spec, name: str) -> float | None:
        return sprites.outline.get((sprites.row[name, spec.style], spec.background))

    pictures = torch.stack([background(rng, spec.background) for spec in specs])
    singles = [index for index, spec in enumerate(specs) if spec.second is None and not spec.small]
    smalls = [index for index, spec in enumerate(specs) if spec.small]
    pairs = [index for index, spec in enumerate(specs) if spec.second is not None]
    if singles:
        chosen = [specs[index] for index in singles]
        places = [placement(0.5 + stray(), 0.5 + stray(), rng.uniform(*scale_range)) for _ in chosen]
        sheet = sprites.full[[sprites.row[spec.first, spec.style] for spec in chosen]]
        levels = [outline(spec, spec.first) for spec in chosen]
        pictures[singles] = _paste(pictures[singles], sheet, places, levels)
    if smalls:
        chosen = [specs[index] for index in smalls]
        places = [
            placement(
                0.5 + rng.uniform(-SMALL_SHIFT, SMALL_SHIFT),
                0.5 + rng.uniform(-SMALL_SHIFT, SMALL_SHIFT),
                rng.uniform(*SMALL_SCALE),
            )
            for _ in chosen
        ]
        sheet = sprites.half[[sprites.row[spec.first, spec.style] for spec in chosen]]
        levels = [outline(spec, spec.first) for spec in chosen]
        pictures[smalls] = _paste(pictures[smalls], sheet, places, levels)
    for side, centre in ((0, 0.26), (1, 0.74)):
        if not pairs:
            break
        chosen = [specs[index] for index in pairs]
        places = [placement(centre + stray() / 2, 0.5 + stray() / 2, PAIR_SCALE) for _ in chosen]
        sheet = sprites.half[[sprites.row[spec.names[side], spec.style] for spec in chosen]]
        levels = [outline(spec, spec.names[side]) for spec in chosen]
        pictures[pairs] = _paste(pictures[pairs], sheet, places, levels)
    return pictures.clamp(0, 1) * 2 - 1


def contact_sheet(pictures: torch.Tensor, columns: int) -> Image.Image:
    """The pictures (-1..1) side by side in rows."""
    rows = [
        torch.cat(list(pictures[start : start + columns]), 2)
        for start in range(0, len(pictures) - columns + 1, columns)
    ]
    pixels = ((torch.cat(rows, 1) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
