"""Recognisers that judge the model; trained apart from it.

They see composites of other seeds, placed more loosely than in training and
worn by blur, noise and the linear codec, and never a generated picture.
"""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import compose
import latents as latent_space
from captions import Spec
from vocabulary import BACKGROUNDS, COLOURS, OBJECT_NAMES, STYLES

SEED = 7001
INPUT = 64
POOL = 16000
STEPS = 1600
BATCH = 64
STYLE_NAMES = tuple(STYLES)


class Recogniser(nn.Module):
    """A small convolutional network with heads for object, style and background."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        shape = ((3, 48, 5, 2), (48, 96, 3, 2), (96, 128, 3, 2), (128, 128, 3, 1))
        for inner, outer, kernel, stride in shape:
            layers += [
                nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True),
            ]
        self.trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.2))
        features = 128 * 16
        self.object = nn.Linear(features, len(OBJECT_NAMES))
        self.style = nn.Linear(features, len(STYLE_NAMES))
        self.background = nn.Linear(features, len(BACKGROUNDS))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.trunk(pictures)
        return self.object(features), self.style(features), self.background(features)


def shrink(pictures: torch.Tensor) -> torch.Tensor:
    """Any square pictures to the recogniser's input size."""
    return F.interpolate(pictures, (INPUT, INPUT), mode="bilinear", antialias=True)


def _wear(rng: torch.Generator, pictures: torch.Tensor) -> torch.Tensor:
    """Random blur, noise and contrast, so that only gross shape and colour count."""
    kind = int(torch.randint(0, 3, (1,), generator=rng))
    if kind == 1:
        pictures = F.avg_pool2d(pictures, 3, stride=1, padding=1, count_include_pad=False)
    elif kind == 2:
        small = F.interpolate(pictures, scale_factor=0.5, mode="bilinear", antialias=True)
        pictures = F.interpolate(small, (INPUT, INPUT), mode="bilinear")
    count = len(pictures)
    contrast = 0.85 + 0.3 * torch.rand(count, 1, 1, 1, generator=rng)
    offset = 0.1 * (torch.rand(count, 3, 1, 1, generator=rng) - 0.5)
    noise = 0.08 * torch.rand(count, 1, 1, 1, generator=rng)
    return pictures * contrast + offset + noise * torch.randn(pictures.shape, generator=rng)


def train(work: Path) -> None:
    """Writes `WORK/recogniser.pt`."""
    rng = random.Random(SEED)
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    sprites = compose.Sprites(work)
    codec = latent_space.LinearCodec.load(work / "codec.pt")
    specs = [
        Spec(rng.choice(OBJECT_NAMES), rng.choice(STYLE_NAMES), rng.choice(BACKGROUNDS))
        for _ in range(POOL)
    ]
    parts = []
    for start in range(0, POOL, 250):
        chosen = specs[start : start + 250]
        pictures = compose.render(sprites, chosen, rng, scale_range=(0.74, 0.94), shift=0.04)
        half = len(chosen) // 2
        pictures[:half] = codec.decode(codec.encode(pictures[:half]))
        parts.append(shrink(pictures).half())
        if start % 4000 == 0:
            print(f"recogniser: {start} of {POOL} pictures", flush=True)
    pool = torch.cat(parts)
    objects = torch.tensor([OBJECT_NAMES.index(spec.first) for spec in specs])
    styles = torch.tensor([STYLE_NAMES.index(spec.style) for spec in specs])
    backgrounds = torch.tensor([BACKGROUNDS.index(spec.background) for spec in specs])

    model = Recogniser().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    for step in range(STEPS):
        rows = torch.randint(0, POOL, (BATCH,), generator=generator)
        worn = _wear(generator, pool[rows].float())
        with torch.autocast("cpu", torch.bfloat16):
            found = model(worn.contiguous(memory_format=torch.channels_last))
        losses = [
            F.cross_entropy(logits.float(), wanted[rows])
            for logits, wanted in zip(found, (objects, styles, backgrounds), strict=True)
        ]
        loss = losses[0] + 0.5 * losses[1] + 0.3 * losses[2]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 199:
            print(f"recogniser step {step + 1}: loss {float(loss.detach()):.3f}", flush=True)
    torch.save(model.state_dict(), work / "recogniser.pt")


def load(work: Path) -> Recogniser:
    if not (work / "recogniser.pt").exists():
        train(work)
    model = Recogniser()
    model.load_state_dict(torch.load(work / "recogniser.pt"))
    return model.eval()


def border_colour(picture: torch.Tensor) -> str:
    """The named colour nearest to the median of a picture's two-pixel border."""
    edge = torch.cat(
        [
            picture[:, :2].flatten(1),
            picture[:, -2:].flatten(1),
            picture[:, :, :2].flatten(1),
            picture[:, :, -2:].flatten(1),
        ],
        1,
    )
    return nearest_colour(edge.median(1).values)


def nearest_colour(colour: torch.Tensor) -> str:
    """The named colour nearest to an RGB of -1..1."""
    found = (colour + 1) * 127.5

    def distance(name: str) -> float:
        return float((found - torch.tensor(COLOURS[name])).square().sum())

    return min(COLOURS, key=distance)


def halves(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Square cuts around the two places of a pair."""
    size = pictures.shape[-1]
    side = round(0.52 * size)
    top = (size - side) // 2
    rows = slice(top, top + side)
    return pictures[..., rows, :side], pictures[..., rows, size - side :]
