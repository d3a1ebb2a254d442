"""Stage `train`: the denoiser and the text encoder, together, from scratch."""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor

import bpe
import compose
import latents as latent_space
from networks import make_schedule, make_text_encoder, make_unet

EMPTY_SHARE = 0.10
SAVE_EVERY = 600.0  # seconds
WARM_UP = 100  # steps
PORT = 29517  # where processes that train together meet, on this machine only
HOLD = 0.5  # share of the budget at full learning rate, before the cosine

PREVIEW_PROMPTS = (
    "a red apple on a blue background",
    "a cat on a red background, 3d style",
    "a dog on a green background, flat style",
    "a panda on an orange background, cartoon style",
    "an owl on a purple background, flat style",
    "a whale on a pink background, 3d style",
    "a butterfly on a yellow background, 3d style",
    "a rose on a white background, flat style",
    "a sunflower on a blue background, 3d style",
    "a cactus on a teal background, flat style",
    "a car on a white background, cartoon style",
    "a pizza on a gray background, 3d style",
    "an airplane on a brown background, flat style",
    "a rocket on a black background, 3d style",
    "a house on a purple background, 3d style",
    "a castle on a green background, flat style",
    "a guitar on a blue background, cartoon style",
    "a soccer ball on a red background, flat style",
    "a robot on a yellow background, 3d style",
    "a ghost on an orange background, flat style",
    "a penguin in a green meadow, 3d style",
    "a snowman under a starry night sky, flat style",
    "a sailboat on a beach, cartoon style",
    "a cat and a dog on a blue background, 3d style",
)


@dataclass
class Recipe:
    """What a run depends on; stored with every checkpoint."""

    shards: int
    batch: int
    learning_rate: float
    average: float  # decay of the averaged weights
    minutes: float  # of training itself; the schedule is stretched over them
    seed: int  # of the first weights, the order of the pictures and the noise


@dataclass(frozen=True)
class Team:
    """This process among those that train together; every one takes its share of each batch."""

    rank: int = 0
    size: int = 1

    def join(self) -> None:
        if self.size > 1:
            where = f"tcp://127.0.0.1:{PORT}"
            dist.init_process_group("gloo", init_method=where, rank=self.rank, world_size=self.size)

    def share(self, batch: int) -> slice:
        part = batch // self.size
        return slice(self.rank * part, (self.rank + 1) * part)


@dataclass
class Progress:
    step: int = 0
    seconds: float = 0.0
    samples: int = 0


class Trainer:
    """State of a run: networks, their averages, optimiser, position, log."""

    def __init__(self, work: Path, recipe: Recipe, device: torch.device, team: Team) -> None:
        self.work, self.recipe, self.device, self.team = work, recipe, device, team
        torch.manual_seed(recipe.seed)
        stored, captions = latent_space.load(work, recipe.shards)
        self.latents = stored.to(device)
        self.encoder = bpe.Encoder(work)
        self.ids = self._ids(captions)
        self.nothing = self._ids([""])
        self.codec = latent_space.LinearCodec.load(work / "codec.pt", device)
        self.unet = make_unet().to(device)
        if device.type == "cpu":
            # At most 64 places: two matrix products beat the blocked kernel by 15 % a step.
            self.unet.set_attn_processor(AttnProcessor())
        self.text = make_text_encoder(self.encoder.size).to(device)
        self.schedule = make_schedule()
        self.kept = self.schedule.alphas_cumprod.to(device)  # signal power per timestep
        self.parameters = [*self.unet.parameters(), *self.text.parameters()]
        # All gradients in one piece, to add them up across processes at once; the
        # last place carries the seconds that a step took by the first one's clock.
        self.gradients = torch.zeros(sum(p.numel() for p in self.parameters) + 1, device=device)
        pieces = self.gradients[:-1].split([p.numel() for p in self.parameters])
        for parameter, piece in zip(self.parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        self.averages = [parameter.detach().clone() for parameter in self.parameters]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": 0.01},
                {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.progress = Progress()
        self.log: list[dict[str, float]] = []
        self.mark = time.monotonic()  # when the step under way began

    def _ids(self, captions: list[str]) -> torch.Tensor:
        return torch.tensor(self.encoder(captions), device=self.device)

    # -- one step -----------------------------------------------------------

    def _rate(self) -> float:
        """Warm-up, a plateau, then a cosine down to 2 % over the rest."""
        done = min(1.0, self.progress.seconds / (60 * self.recipe.minutes))
        fall = max(0.0, (done - HOLD) / (1 - HOLD))
        shape = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall))
        return self.recipe.learning_rate * min(1.0, (self.progress.step + 1) / WARM_UP) * shape

    def step(self) -> float:
        """One optimiser step; returns the unweighted mean squared error of this process's share.

        All processes draw the same random numbers for the whole batch, so that
        their number changes nothing but rounding.
        """
        batch = self.recipe.batch
        rows = torch.randint(0, len(self.latents), (batch,), device=self.device)
        clean = self.latents[rows].float()
        ids = self.ids[rows].clone()
        ids[torch.rand(batch, device=self.device) < EMPTY_SHARE] = self.nothing
        # Stratified: every batch covers the whole range of noise evenly.
        strata = torch.randperm(batch, device=self.device) + torch.rand(batch, device=self.device)
        times = (strata / batch * 1000).long().clamp(0, 999)
        kept = self.kept[times].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        target = kept.sqrt() * noise - (1 - kept).sqrt() * clean
        # Min-SNR would switch off the noisy steps that decide what appears;
        # the "+ 1" keeps them at full weight under v-prediction.
        ratio = (kept / (1 - kept)).flatten()
        weight = (ratio.clamp(max=5) + 1) / (ratio + 1)

        mine = self.team.share(batch)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        # A fifth faster on processors with AVX-512 bf16 (but not in channels-last order).
        with torch.autocast(self.device.type, torch.bfloat16):
            states = self.text(ids[mine]).last_hidden_state
            found = self.unet(noisy[mine], times[mine], states, return_dict=False)[0]
        errors = (found.float() - target[mine]).square().mean((1, 2, 3))
        self.gradients.zero_()
        (errors * weight[mine]).mean().backward()
        self._add_up()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()

        self.progress.step += 1
        self.progress.samples += batch
        step = self.progress.step
        decay = min(self.recipe.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)
        return float(errors.detach().mean())

    def _add_up(self) -> None:
        """Means of all processes' gradients; counts the step's time alike in each."""
        now = time.monotonic()
        self.gradients[-1] = now - self.mark if self.team.rank == 0 else 0
        self.mark = now
        if self.team.size > 1:
            dist.all_reduce(self.gradients)
        self.progress.seconds += float(self.gradients[-1])
        self.gradients /= self.team.size

    # -- looking at it ------------------------------------------------------

    def swap(self) -> None:
        """Exchanges the networks' weights with their averages."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.data, average.data = average.data, parameter.data

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Error with the right caption and with another's, at three noise levels."""
        generator = torch.Generator().manual_seed(9)
        rows = torch.randint(0, len(self.latents), (128,), generator=generator)
        clean = self.latents[rows.to(self.device)].float()
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        ids = self.ids[rows.to(self.device)]
        result = {}
        for time_step in (850, 500, 200):
            kept = self.kept[time_step]
            noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
            target = kept.sqrt() * noise - (1 - kept).sqrt() * clean
            for name, given in (("right", ids), ("shuffled", ids.roll(1, 0))):
                states = self.text(given).last_hidden_state
                found = self.unet(noisy, time_step, states, return_dict=False)[0]
                result[f"{name}_{time_step}"] = round(float(F.mse_loss(found, target)), 4)
        return result

    @torch.no_grad()
    def draw(self, prompts, steps: int = 12, guidance: float = 3.0) -> torch.Tensor:
        """Pictures of the prompts through the linear codec."""
        noise = torch.Generator().manual_seed(0)
        shape = (len(prompts), latent_space.CHANNELS, latent_space.GRID, latent_space.GRID)
        state = torch.randn(shape, generator=noise).to(self.device)
        asked = self.text(self._ids(list(prompts))).last_hidden_state
        empty = self.text(self.nothing).last_hidden_state.expand_as(asked)
        states = torch.cat([empty, asked])
        self.schedule.set_timesteps(steps)
        for time_step in self.schedule.timesteps:
            doubled = torch.cat([state, state])
            free, led = self.unet(doubled, time_step, states, return_dict=False)[0].chunk(2)
            guided = free + guidance * (led - free)
            state = self.schedule.step(guided, time_step, state).prev_sample
        return self.codec.decode(state)

    # -- keeping it ---------------------------------------------------------

    def save(self) -> None:
        """Writes the resumable state and the averaged weights, and looks at them."""
        self.swap()
        self.unet.eval(), self.text.eval()
        record = {
            "step": self.progress.step,
            "samples": self.progress.samples,
            "minutes": round(self.progress.seconds / 60, 1),
        }
        record |= self.validate()
        self.log.append(record)
        print("validation " + json.dumps(record), flush=True)
        folder = self.work / "checkpoints"
        folder.mkdir(exist_ok=True)
        preview = compose.contact_sheet(self.draw(PREVIEW_PROMPTS), 8)
        preview.save(folder / f"preview-{self.progress.step:06d}.png")
        weights = {"unet": self.unet.state_dict(), "text": self.text.state_dict()}
        weights |= {"recipe": asdict(self.recipe), "progress": asdict(self.progress)}
        store(weights, folder / "average.pt")
        self.swap()
        self.unet.train(), self.text.train()
        state = {
            "unet": self.unet.state_dict(),
            "text": self.text.state_dict(),
            "averages": self.averages,
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
            "log": self.log,
            "random": torch.get_rng_state(),
        }
        store(state, folder / "state.pt")
        (folder / "log.json").write_text(json.dumps(self.log, indent=1) + "\n")

    def resume(self) -> None:
        path = self.work / "checkpoints" / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location="cpu")
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        for average, stored in zip(self.averages, state["averages"], strict=True):
            average.copy_(stored)
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        self.log = state["log"]
        torch.set_rng_state(state["random"])
        print(f"resumed at step {self.progress.step}", flush=True)

    def run(self) -> None:
        limit = 60 * self.recipe.minutes
        loss = None
        mark, last_save = time.monotonic(), time.monotonic()
        self.mark = mark
        last_step = self.progress.step
        while self.progress.seconds < limit:
            error = self.step()
            loss = error if loss is None else 0.99 * loss + 0.01 * error
            if self.team.rank != 0:
                continue
            if self.progress.step % 50 == 0:
                steps = self.progress.step - last_step
                rate = steps * self.recipe.batch / (time.monotonic() - mark)
                mark, last_step = time.monotonic(), self.progress.step
                entry = {
                    "step": self.progress.step,
                    "minutes": round(self.progress.seconds / 60, 2),
                    "loss": round(loss, 4),
                    "samples_per_second": round(rate, 1),
                    "learning_rate": round(self._rate(), 6),
                }
                self.log.append(entry)
                print(json.dumps(entry), flush=True)
            if time.monotonic() - last_save > SAVE_EVERY:
                self.save()
                mark = last_save = self.mark = time.monotonic()
                last_step = self.progress.step
        if self.team.rank == 0:
            self.save()


def store(value: object, path: Path) -> None:
    """Saves so that an interruption never leaves half a file."""
    partial = path.with_suffix(".part")
    torch.save(value, partial)
    os.replace(partial, path)


def train(work: Path, recipe: Recipe, device: torch.device, team: Team) -> None:
    """Writes `WORK/checkpoints`; only the first process of a team writes anything."""
    team.join()
    trainer = Trainer(work, recipe, device, team)
    count = sum(parameter.numel() for parameter in trainer.parameters)
    print(f"{len(trainer.latents)} pictures, {count / 1e6:.2f} M parameters, {asdict(recipe)}", flush=True)
    trainer.resume()
    if team.rank == 0:
        for stale in ("exported", "evaluated"):
            (work / stale).unlink(missing_ok=True)
    trainer.run()
    if team.rank == 0:
        (work / "checkpoints" / "finished").write_text(f"{recipe.minutes}\n")


def is_done(work: Path, minutes: float) -> bool:
    """Whether a run has ended; one that was shorter than `minutes` may go on."""
    finished = work / "checkpoints" / "finished"
    return finished.exists() and float(finished.read_text()) >= minutes
