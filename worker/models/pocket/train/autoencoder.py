"""Stage `autoencoder`: an AutoencoderTiny that speaks the linear codec's language.

Its encoder regresses the principal components, its decoder turns them into
pixels better than the linear way back. Afterwards the folder holds a plain
diffusers autoencoder and the denoiser need not change.
"""

import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import compose
import latents as latent_space
from diffusion import store
from networks import SCALING_FACTOR, make_autoencoder

POOL_SHARDS = (900, 901)  # pictures no other stage sees
POOL_PICTURES = 2500
SPARE_PICTURES = 200
BATCH = 8
LEARNING_RATE = 2e-3
LATER_RATE = 1e-3  # when going on from an earlier run's weights
AVERAGE = 0.998
NOISE = 0.1  # on the decoder's input, at most: generated latents are never exact
EDGE_WEIGHT = 0.5
ENCODER_EVERY = 3  # the encoder's task is easy: it trains on every third batch
SAVE_EVERY = 300.0


def _pool(work: Path) -> torch.Tensor:
    """Pictures to train on (bytes), the last SPARE_PICTURES of them for judging."""
    parts = [
        ((pictures + 1) * 127.5).round().to(torch.uint8)
        for index in POOL_SHARDS
        for pictures, _ in latent_space.draw_shard(work, index, POOL_PICTURES)
    ]
    return torch.cat(parts)


def _floats(pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
    return pictures.to(device).float() / 127.5 - 1


def _edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    across = pictures[..., 1:] - pictures[..., :-1]
    down = pictures[..., 1:, :] - pictures[..., :-1, :]
    return across, down


def picture_loss(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of pixels plus that of their differences."""
    loss = F.l1_loss(found, wanted)
    for found_edges, wanted_edges in zip(_edges(found), _edges(wanted), strict=True):
        loss = loss + EDGE_WEIGHT * F.l1_loss(found_edges, wanted_edges)
    return loss


@torch.no_grad()
def judge(model, codec, pictures: torch.Tensor) -> dict[str, float]:
    """PSNR in dB of the linear codec, the decoder on its latents, and the round trip."""
    wanted = codec.encode(pictures)
    found = model.encoder(pictures) * SCALING_FACTOR
    return {
        "linear_codec": round(latent_space.psnr(codec.decode(wanted), pictures), 2),
        "decoder": round(
            latent_space.psnr(model.decoder(wanted / SCALING_FACTOR).clamp(-1, 1), pictures), 2
        ),
        "round_trip": round(
            latent_space.psnr(model.decoder(found / SCALING_FACTOR).clamp(-1, 1), pictures), 2
        ),
        "encoder_error": round(float(F.mse_loss(found, wanted)), 4),
    }


def train(
    work: Path, minutes: float, device: torch.device, seed: int = 0, start: Path | None = None
) -> None:
    """Writes `WORK/autoencoder.pt` (averaged weights) and `autoencoder.json`.

    `start` is an earlier run's `autoencoder.pt` for the same latent space, to
    go on from instead of random weights.
    """
    torch.manual_seed(1 + seed)
    codec = latent_space.LinearCodec.load(work / "codec.pt", device)
    model = make_autoencoder()
    learning_rate = LEARNING_RATE if start is None else LATER_RATE
    if start is not None:
        model.load_state_dict(torch.load(start, map_location="cpu"))
    model = model.to(device, memory_format=torch.channels_last)
    parameters = list(model.parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    progress = {"step": 0, "seconds": 0.0}
    state_path = work / "checkpoints" / "autoencoder-state.pt"
    state_path.parent.mkdir(exist_ok=True)
    if state_path.exists():
        state = torch.load(state_path, map_location=device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        averages, progress = state["averages"], state["progress"]
    pool = _pool(work)
    spare = _floats(pool[-SPARE_PICTURES:], device)
    batch = BATCH if device.type == "cpu" else 128
    last_save = time.monotonic()

    def swap() -> None:
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.data, average.data = average.data, parameter.data

    def save() -> dict[str, float]:
        swap()
        figures = judge(model, codec, spare) | {"step": progress["step"]}
        print("autoencoder " + json.dumps(figures), flush=True)
        store(model.state_dict(), work / "autoencoder-partial.pt")
        swap()
        store(
            {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "averages": averages,
                "progress": progress,
            },
            state_path,
        )
        return figures

    while progress["seconds"] < 60 * minutes:
        began = time.monotonic()
        done = progress["seconds"] / (60 * minutes)
        fall = max(0.0, (done - 0.3) / 0.7)
        rate = learning_rate * min(1.0, (progress["step"] + 1) / 50)
        for group in optimiser.param_groups:
            group["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))
        rows = torch.randint(0, len(pool) - SPARE_PICTURES, (batch,))
        pictures = _floats(pool[rows], device).contiguous(memory_format=torch.channels_last)
        wanted = codec.encode(pictures)
        level = NOISE * torch.rand(batch, 1, 1, 1, device=device)
        noisy = wanted + level * torch.randn_like(wanted)
        # Twice as fast as fp32 here, on processors with AVX-512 bf16 as on GPUs;
        # the denoiser's small convolutions gain nothing from it on a CPU.
        with torch.autocast(device.type, torch.bfloat16):
            drawn = model.decoder(noisy / SCALING_FACTOR)
            read = model.encoder(pictures) if progress["step"] % ENCODER_EVERY == 0 else None
        loss = picture_loss(drawn.float(), pictures)
        if read is not None:
            loss = loss + F.mse_loss(read.float() * SCALING_FACTOR, wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        progress["step"] += 1
        decay = min(AVERAGE, (1 + progress["step"]) / (10 + progress["step"]))
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - decay)
        progress["seconds"] += time.monotonic() - began
        if progress["step"] % 100 == 0:
            seen = progress["step"] * batch / progress["seconds"]
            print(f"autoencoder step {progress['step']}: {seen:.1f}/s", flush=True)
        if time.monotonic() - last_save > SAVE_EVERY:
            save()
            last_save = time.monotonic()
    figures = save()
    (work / "autoencoder.json").write_text(json.dumps(figures, indent=1) + "\n")
    (work / "autoencoder-partial.pt").rename(work / "autoencoder.pt")


def is_done(work: Path) -> bool:
    return (work / "autoencoder.pt").exists()
