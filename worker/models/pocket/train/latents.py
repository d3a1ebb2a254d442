"""Stage `latents`: the linear codec and the training set in its latent space.

The diffusion model is trained before there is an autoencoder: 16×16 patches
are projected on their leading principal components. The real autoencoder
learns that very latent space afterwards (`autoencoder.py`), so nothing has to
be trained twice. The space must never change under a checkpoint: the codec is
kept with it.
"""

import os
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F

import compose
from captions import caption, random_spec

PATCH = 16
CHANNELS = 32
GRID = compose.SIZE // PATCH
FIT_PICTURES = 6000
SHARD_PICTURES = 4000
WHITENING = 0.5  # latent deviations are sd^(1 - WHITENING), before RMS 1


class LinearCodec:
    """Principal components of patches; latents are n×CHANNELS×GRID×GRID, RMS 1."""

    def __init__(self, basis: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> None:
        self.basis, self.mean, self.scale = basis, mean, scale

    @classmethod
    def fit(cls, pictures: torch.Tensor) -> "LinearCodec":
        patches = F.pixel_unshuffle(pictures, PATCH).permute(0, 2, 3, 1)
        patches = patches.reshape(-1, patches.shape[-1])
        mean = patches.mean(0)
        variances, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        basis = vectors.flip(1).T[:CHANNELS].contiguous()
        deviation = variances.flip(0)[:CHANNELS].sqrt()
        level = deviation.pow(2 - 2 * WHITENING).mean().sqrt()
        return cls(basis, mean, deviation.pow(WHITENING) * level)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        patches = F.pixel_unshuffle(pictures, PATCH).permute(0, 2, 3, 1) - self.mean
        return (patches @ self.basis.T / self.scale).permute(0, 3, 1, 2).contiguous()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        patches = (latents.permute(0, 2, 3, 1) * self.scale) @ self.basis + self.mean
        return F.pixel_shuffle(patches.permute(0, 3, 1, 2), PATCH).clamp(-1, 1)

    def save(self, path: Path) -> None:
        torch.save({"basis": self.basis, "mean": self.mean, "scale": self.scale}, path)

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "LinearCodec":
        stored = torch.load(path, map_location=device)
        return cls(stored["basis"], stored["mean"], stored["scale"])


def psnr(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of pictures in -1..1."""
    error = ((found - wanted) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


def draw_shard(work: Path, index: int, pictures: int = SHARD_PICTURES):
    """Pictures and captions of shard `index`; the same on every run."""
    rng = random.Random(1000 + index)
    sprites = compose.Sprites(work)
    for start in range(0, pictures, 250):
        specs = [random_spec(rng) for _ in range(min(250, pictures - start))]
        yield compose.render(sprites, specs, rng), [caption(rng, spec) for spec in specs]


def shard_path(work: Path, index: int) -> Path:
    return work / "shards" / f"{index:04d}.pt"


def make_shard(work: Path, index: int) -> int:
    """Writes one shard of latents (fp16) and captions unless it is there."""
    path = shard_path(work, index)
    if not path.exists():
        torch.set_num_threads(1)
        codec = LinearCodec.load(work / "codec.pt")
        latents, captions = [], []
        for pictures, lines in draw_shard(work, index):
            latents.append(codec.encode(pictures).half())
            captions += lines
        partial = path.with_suffix(".part")
        torch.save({"latents": torch.cat(latents), "captions": captions}, partial)
        os.replace(partial, path)
    return index


def prepare(work: Path, shards: int, workers: int) -> None:
    """Fits the codec, then draws the training set shard by shard."""
    (work / "shards").mkdir(exist_ok=True)
    if not (work / "codec.pt").exists():
        pictures = torch.cat([part for part, _ in draw_shard(work, -1, FIT_PICTURES + 500)])
        codec = LinearCodec.fit(pictures[:FIT_PICTURES])
        spare = pictures[FIT_PICTURES:]
        print(f"linear codec: {psnr(codec.decode(codec.encode(spare)), spare):.2f} dB", flush=True)
        codec.save(work / "codec.pt")
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(make_shard, work, index) for index in range(shards)]
        for job in jobs:
            print(f"shard {job.result() + 1} of {shards}", flush=True)


def is_done(work: Path, shards: int) -> bool:
    return all(shard_path(work, index).exists() for index in range(shards))


def load(work: Path, shards: int) -> tuple[torch.Tensor, list[str]]:
    """All latents (n×CHANNELS×GRID×GRID, fp16) and captions, in shard order."""
    parts = [torch.load(shard_path(work, index)) for index in range(shards)]
    captions = [line for part in parts for line in part["captions"]]
    return torch.cat([part["latents"] for part in parts]), captions
